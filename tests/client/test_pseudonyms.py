import csv

import pytest

from fedpsyau_client.store.pseudonyms import pseudonymise, working_folder, write_ids
from fedpsyau_model.errors import OutputWriteError

KEYS = [("Zoe", "b/1", 10), ("Ann", "a", None), ("Zoe", "b/1", 30)]


def test_clips_are_numbered_by_position_and_subjects_by_sorted_name():
    ids = pseudonymise(KEYS)
    assert ids.clip.tolist() == ["c00001", "c00002", "c00003"]
    assert ids.subject.tolist() == ["s002", "s001", "s002"]


def test_no_clips_have_no_ids():
    ids = pseudonymise([])
    assert len(ids.clip) == len(ids.subject) == 0


def test_the_list_leads_back_and_only_its_owner_may_read_it(tmp_path):
    folder = working_folder(tmp_path / "data", "samm")
    assert folder == tmp_path / "data" / ".samm.work"
    assert folder.stat().st_mode & 0o077 == 0
    assert working_folder(tmp_path / "data", "samm") == folder
    file = write_ids(folder, KEYS, pseudonymise(KEYS))
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["clip", "subject", "original_subject", "original_filename", "onset"],
        ["c00001", "s002", "Zoe", "b/1", "10"],
        ["c00002", "s001", "Ann", "a", ""],
        ["c00003", "s002", "Zoe", "b/1", "30"],
    ]


def test_a_place_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OutputWriteError, match=r"\.samm\.work cannot be written"):
        working_folder(tmp_path / "data", "samm")
