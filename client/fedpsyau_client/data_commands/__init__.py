"""``fedpsyau data``: from clips and label tables to feature stores. One module, one command."""

from __future__ import annotations

from fedpsyau_client.data_commands.check import check
from fedpsyau_client.data_commands.show import show
from fedpsyau_client.data_commands.synth import synth
from fedpsyau_model.command_line import new_app

app = new_app("Prepare a site's data, make synthetic data, and look at feature stores.")


@app.callback()
def data() -> None:
    """Prepare a site's data, make synthetic data, and look at feature stores."""


app.command()(check)
app.command()(show)
app.command()(synth)
