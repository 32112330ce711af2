"""``fedpsyau data``: from clips and label tables to feature stores. One module, one command."""

from __future__ import annotations

from fedpsyau_client.data_commands.card import card
from fedpsyau_client.data_commands.check import check
from fedpsyau_client.data_commands.fetch_models import fetch_models
from fedpsyau_client.data_commands.import_flow import import_flow
from fedpsyau_client.data_commands.look import look
from fedpsyau_client.data_commands.partition import partition
from fedpsyau_client.data_commands.prepare import prepare
from fedpsyau_client.data_commands.show import show
from fedpsyau_client.data_commands.synth import synth
from fedpsyau_model.command_line import new_app

app = new_app("Prepare a site's data, make synthetic data, and look at feature stores.")


@app.callback()
def data() -> None:
    """Prepare a site's data, make synthetic data, and look at feature stores."""


app.command("import-flow")(import_flow)
app.command()(card)
app.command()(check)
app.command()(fetch_models)
app.command()(look)
app.command()(partition)
app.command()(prepare)
app.command()(show)
app.command()(synth)
