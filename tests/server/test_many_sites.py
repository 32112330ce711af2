"""A thousand sites, some of them late, silent or bad, behind the real round loop."""

from __future__ import annotations

from pathlib import Path

from benchmarks._many_sites import ManySites, Plan, check_run, new_run
from fedpsyau_server.rounds import RoundLoop
from fedpsyau_server.run_folder import RunFolder


def test_rounds_of_a_thousand_sites_go_on_as_the_definition_says(tmp_path: Path) -> None:
    rounds, staleness = 3, 1  # who answers in round 1 only counts in round 2, and not in 3
    sites = ManySites(Plan.draw(1000, rounds, seed=6), seed=6)
    RoundLoop(new_run(tmp_path / "run", sites.plan, rounds, staleness), sites).run()
    folder = RunFolder.open(tmp_path / "run")
    assert folder.state.round == rounds
    check_run(folder, sites)
