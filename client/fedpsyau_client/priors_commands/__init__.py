"""``fedpsyau priors``: what is known beforehand of action units. One module, one command.

The commands stand here and not beside the matrices, because `fedpsyau_priors` imports nothing of
ours and so knows neither label tables nor feature stores.
"""

from __future__ import annotations

from fedpsyau_client.priors_commands.au_frequency import au_frequency
from fedpsyau_client.priors_commands.build import build
from fedpsyau_client.priors_commands.plot import plot
from fedpsyau_client.priors_commands.show import show
from fedpsyau_client.priors_commands.study import study
from fedpsyau_model.command_line import new_app

app = new_app("Show, plot and build the prior knowledge of which action units go together.")

app.command("show")(show)
app.command("plot")(plot)
app.command("build")(build)
app.command("study")(study)
app.command("au-frequency")(au_frequency)
