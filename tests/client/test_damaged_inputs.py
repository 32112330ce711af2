"""A thousand damaged inputs: each works or is refused with a typed error.

Never another exception, a hang, or a half-written feature store. Damage is drawn from a seed, so
that a case's number is enough to have it again. Clips have a thousand of their own in
`preparation/test_damaged_clips.py`, with a detector; here they are few.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from damaged_inputs.cases import Reader, Tally, attempt, generator, run_reader
from damaged_inputs.clip_inputs import run_clips
from damaged_inputs.flow_inputs import flow_readers, import_archive
from damaged_inputs.label_inputs import folder_readers, table_readers
from damaged_inputs.landmark_inputs import landmark_readers, model_readers
from damaged_inputs.priors_inputs import priors_readers
from damaged_inputs.store_inputs import store_readers, write_store

from fedpsyau_client.store.feature_store import open_feature_store

TOTAL = 1000
CLIPS = 65


def readers() -> tuple[Reader, ...]:
    return (
        *table_readers(40),
        *folder_readers(55),
        *landmark_readers(50),
        *model_readers(25),
        *flow_readers(75),
        *priors_readers(40),
        *store_readers(100),
    )


def check(tally: Tally, name: str) -> None:
    outcomes = ", ".join(f"{count} {kind}" for kind, count in tally.outcomes.most_common())
    logging.getLogger(__name__).info("%s: %s", name, outcomes)
    assert not tally.faults, "\n\n".join(tally.faults)
    # Were all refused by one early check, or none at all, nothing would have been shown.
    assert tally.outcomes["works"] > 0, f"{name}: everything was refused"
    assert tally.refused > 0, f"{name}: nothing was refused"


def test_there_are_a_thousand_cases() -> None:
    assert sum(reader.cases for reader in readers()) + CLIPS == TOTAL


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("reader", readers(), ids=lambda reader: reader.name.replace(" ", "-"))
def test_each_works_or_is_refused(reader: Reader, tmp_path: Path) -> None:
    check(run_reader(reader, reader.numbers, tmp_path), reader.name)


def test_each_clip_works_or_is_refused(tmp_path: Path) -> None:
    check(run_clips(range(CLIPS), tmp_path), "clips")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_store_that_is_there_stays_until_another_is_whole(tmp_path: Path) -> None:
    """Whatever comes of replacing it, there is a whole store, and after a refusal the earlier."""
    (reader,) = (each for each in flow_readers(1) if each.name == "flow archive")
    refused = 0
    for number, (name, damage) in enumerate(reader.damage.items()):
        folder = tmp_path / str(number)
        out = folder / "out"
        (folder / "inputs").mkdir(parents=True)
        rng = generator("replaced", number)
        before = open_feature_store(write_store(out, rng)).manifest.data_hash
        file = damage(reader.write(folder / "inputs", rng), rng)
        outcome = attempt(lambda: import_archive(file, out, overwrite=True), out)  # noqa: B023
        assert not outcome.startswith("fault: "), (name, outcome)
        after = open_feature_store(out / "lab_a").manifest.data_hash
        assert (after == before) == (outcome != "works"), (name, outcome)
        refused += outcome != "works"
    assert 0 < refused < len(reader.damage)
