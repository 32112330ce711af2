"""``fedpsyau data check`` as a real process."""

import json
import subprocess
import sys

import pytest

from fedpsyau_model.errors import DataNotFoundError, LabelOdditiesError, LabelTableError

COMMAND = (
    "from fedpsyau_client.data_commands import app;"
    "from fedpsyau_model.command_line import run_command;"
    "run_command(app)"
)


def check(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "check", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "labels.csv"
    rows = [f"anna,clip{number},0,3,0,4+L24,sadness" for number in range(20)]
    rows += ["ben,one,0,3,5,R12+ref(4),happiness", "[b]ben,two,0,9,5,12+smile,others"]
    file.write_text("subject,filename,onset,apex,offset,au,emotion\n" + "\n".join(rows))
    return file


def test_a_person_sees_counts_and_oddities(table):
    code, out, _ = check(table, "--dataset", "csv")
    assert code == 0
    assert "22 clips in 22 videos, 3 subjects, 22 clips coded for action units" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["20", "1", "0", "1"] in lines
    assert ["AU4", "21", "-", "1"] in lines
    assert ["AU12", "2", "1", "-"] in lines
    assert ["AU24", "20", "20", "-", *["not", "one", "of", "the", "network's", "twelve"]] in lines
    assert "anna 20 (0)" in out
    assert "[b]ben 1 (1)" in out
    assert "warning offset-zero (20): the offset is 0, which stands for unknown" in out
    assert "  row 6: onset 0, apex 3, offset 0" in out
    assert "  row 7: " not in out
    assert "and rows 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18 and 3 more" in out
    assert "row 23: 'smile' of '12+smile'" in out


def test_all_tells_every_row(table):
    _, out, _ = check(table, "--dataset", "csv", "--all")
    assert all(f"  row {row}: onset 0, apex 3, offset 0" in out for row in range(2, 22))


def test_json_has_everything(table):
    code, out, _ = check(table, "--dataset", "csv", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["clips"] == 22
    assert document["classes"]["three"] == {
        "negative": 20, "positive": 1, "surprise": 0, "dropped": 1,
    }  # fmt: skip
    assert document["subjects"]["anna"]["negative"] == 20
    assert document["emotions"] == {"sadness": 20, "happiness": 1, "others": 1}
    assert document["aus"]["AU4"] == {"clips": 21, "one-sided": 0, "uncertain": 1}
    assert document["aus"]["AU1"]["clips"] == 0
    assert len([each for each in document["oddities"] if each["kind"] == "offset-zero"]) == 20
    assert {
        "kind": "apex-outside",
        "severity": "warning",
        "row": 23,
        "message": "onset 0, apex 9, offset 5",
    } in document["oddities"]


def test_the_frame_rate_can_be_given(table):
    for fps, long in ((5, True), (20, False)):
        _, out, _ = check(table, "--dataset", "csv", "--fps", fps, "--json")
        document = json.loads(out)
        assert document["frame-rate"] == fps
        kinds = {each["kind"] for each in document["oddities"]}
        assert ("clip-long" in kinds) == long


def test_nothing_in_a_table_commands_the_terminal(tmp_path):
    file = tmp_path / "labels.csv"
    row = "\x1b[2Janna,one\x07,0,3,\x1b[31mfear\n"
    file.write_text("subject,filename,onset,apex,emotion\n" + row * 2)
    _, out, _ = check(file, "--dataset", "csv")
    assert "[2Janna 2 (2)" in out
    assert "duplicate-key" in out
    assert not {"\x1b", "\x07"} & set(out)


def test_units_that_were_not_coded_are_told(tmp_path):
    folder = tmp_path / "ActionUnit_Labels" / "SN001"
    folder.mkdir(parents=True)
    (folder / "SN001_au12.txt").write_text("1,0\n2,3\n3,0\n")
    code, out, _ = check(tmp_path, "--dataset", "disfa")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["AU12", "1", "-", "-"] in lines
    assert ["AU7", "-", "-", "-", "not", "coded", "in", "this", "data", "set"] in lines
    assert "label-file-unreadable (11)" in out


def test_strict_has_an_exit_code_of_its_own(table, tmp_path):
    code, out, err = check(table, "--dataset", "csv", "--strict")
    assert code == LabelOdditiesError.exit_code
    assert "22 warnings" in err
    assert "offset-zero (20)" in out
    good = tmp_path / "good.csv"
    good.write_text("subject,filename,onset,apex,emotion\nanna,one,0,3,fear\n")
    assert check(good, "--dataset", "csv", "--strict")[0] == 0


def test_mistakes_are_explained(table):
    short = table.with_name("short.csv")
    short.write_text("subject,filename,emotion\nanna,one,fear\n")
    code, _, err = check(short, "--dataset", "casme3")
    assert code == LabelTableError.exit_code
    assert "no column Onset, Apex, Offset, so it is not" in err
    code, _, err = check(table.with_name("none.csv"), "--dataset", "csv")
    assert code == LabelTableError.exit_code
    assert "none.csv" in err
    code, _, err = check(table, "--dataset", "casme9")
    assert code == 2
    assert "casme9" in err


def test_the_rule_changes_the_classes(shared_data):
    file = shared_data / "annotations" / "casme2_labels.xlsx"
    for rule, negative, dropped in (("authors", 99, 94), ("megc2019", 88, 105)):
        _, out, _ = check(file, "--dataset", "casme2", "--rule", rule, "--json")
        assert json.loads(out)["classes"]["three"] == {
            "negative": negative, "positive": 32, "surprise": 25, "dropped": dropped,
        }  # fmt: skip


def test_the_clips_are_looked_for_where_a_folder_is_given(table, tmp_path):
    for number in range(20):
        folder = tmp_path / "clips" / "Anna" / f"clip{number}"
        folder.mkdir(parents=True)
        for frame in (0, 3) if number else (0,):
            (folder / f"{frame}.png").touch()
    (tmp_path / "clips" / "ben").mkdir()
    (tmp_path / "clips" / "ben" / "one.mp4").touch()
    (tmp_path / "clips" / "ben" / "deeper" / "one").mkdir(parents=True)
    (tmp_path / "clips" / "ben" / "deeper" / "one" / "0.png").touch()
    options = (table, "--dataset", "csv", "--json")
    found = json.loads(check(*options, "--clips", tmp_path / "clips")[1])["oddities"]
    known = json.loads(check(*options)[1])["oddities"]
    new = [(each["kind"], each["row"]) for each in found if each not in known]
    assert new == [("frame-missing", 2), ("clip-ambiguous", 22), ("clip-missing", 23)]
    code, _, err = check(table, "--dataset", "csv", "--clips", tmp_path / "none")
    assert code == DataNotFoundError.exit_code
    assert "no folder of clips" in err
