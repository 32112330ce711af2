"""Reading files that may be anything: whole ones are read, others are refused at once."""

from __future__ import annotations

import os

import pytest

from fedpsyau_model.input_files import check_input_file, read_input, read_input_text


def test_a_file_is_read_whole_up_to_the_limit(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"\xef\xbb\xbfabc")
    assert read_input(file, 6) == b"\xef\xbb\xbfabc"
    assert read_input_text(file, "utf-8-sig", 6) == "abc"
    check_input_file(file, 6)
    for read in (read_input, check_input_file):
        with pytest.raises(OSError, match="0 MB are read"):
            read(file, 5)


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    assert read_input(tmp_path / "b", 3) == b"abc"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("read", [read_input, check_input_file])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to(os.devnull)
    (tmp_path / "loop").symlink_to("loop")
    for name, words in (("pipe", "pipe"), ("device", "device"), ("loop", "links")):
        with pytest.raises(OSError, match=words):
            read(tmp_path / name, 99)
    with pytest.raises(IsADirectoryError):
        read(tmp_path, 99)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing", 99)
