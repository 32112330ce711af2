"""The Flower ServerApp: opens the run folder, takes the sites in, runs the rounds.

It is named by the code-free bundle and loaded from the installed package. The run folder comes
through the environment, so that nothing of this machine travels in the run's settings.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedpsyau_model.exchange import Dismissal, hello
from fedpsyau_model.process_tree import end_with
from fedpsyau_server.flower_link import FlowerLink
from fedpsyau_server.reply_intake import ReplyIntake
from fedpsyau_server.roster import Roster
from fedpsyau_server.rounds import run_rounds
from fedpsyau_server.run_folder import LAUNCHER_VARIABLE, RUN_FOLDER_VARIABLE, RunFolder

#: How long the sites are given to hear that the run is complete.
FAREWELL_SECONDS = 20.0

#: How long a server that was killed is given to leave the folder.
PREDECESSOR_SECONDS = 30.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run a federation from its last whole round to its end."""
    end_with(int(os.environ[LAUNCHER_VARIABLE]), exit_code=1)
    logging.getLogger("fedpsyau_server").setLevel(logging.INFO)
    folder = RunFolder.open(Path(os.environ[RUN_FOLDER_VARIABLE]))
    settings = folder.config.federation_settings()
    roster = Roster(
        hello(settings, folder.config.run_id),
        folder.config.sites,
        keys=settings.server.kit is not None,
        max_clips=settings.rounds.max_site_clips,
    )
    link = FlowerLink(grid, ReplyIntake(grid), roster, folder.log_event)
    with folder.locked("rounds", PREDECESSOR_SECONDS):
        # Read anew, because a predecessor may have finished a round before it let go of the lock.
        folder.reread()
        folder.log_event("started", whole_rounds=folder.state.round)
        run_rounds(folder, link)
        link.dismiss(
            Dismissal(
                reason=f"The run is complete after {settings.rounds.rounds} rounds.", exit_code=0
            ),
            FAREWELL_SECONDS,
        )
        folder.log_event("ended")
