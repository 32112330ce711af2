"""Threads and memory of a process that trains."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from fedpsyau_model import processor
from fedpsyau_model.processor import each_on_one_thread, kept_memory, let_threads_wait_briefly


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_item_is_done_in_order_and_on_one_thread_of_torch(two_threads):
    together = threading.Barrier(2, timeout=30)

    def seen(number: int) -> tuple[int, int, int]:
        together.wait()  # Breaks unless two are at work at a time.
        return number, torch.get_num_threads(), threading.get_ident()

    found = each_on_one_thread(seen, range(6))
    assert [number for number, _, _ in found] == list(range(6))
    assert {threads for _, threads, _ in found} == {1}
    assert len({ident for _, _, ident in found} - {threading.get_ident()}) == 2
    assert torch.get_num_threads() == 2
    assert each_on_one_thread(seen, []) == []


def test_an_error_comes_back_and_threads_are_as_before(two_threads):
    def fail(number: int) -> None:
        raise OSError(number)

    with pytest.raises(OSError, match="1"):
        each_on_one_thread(fail, [1, 1])
    assert torch.get_num_threads() == 2


def test_threads_that_begin_later_have_as_many_as_before(two_threads):
    each_on_one_thread(lambda number: number, range(4))
    found: list[int] = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [2]


def test_waiting_is_said_unless_somebody_has(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that what the function sets is taken back
        monkeypatch.delenv(name)
    let_threads_wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == str(processor._SPINS)
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    let_threads_wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    let_threads_wait_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ


_FAULTS = """
import resource
from contextlib import nullcontext
from fedpsyau_model.processor import kept_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

with {context}:
    for step in range(21):
        if step == 1:
            before = faults()
        b'x' * 40_000_000
    print(faults() - before)
"""


def faults(context: str) -> int:
    """Pages that 20 steps, which take and free 40 MB each, get from the kernel."""
    answer = subprocess.run(
        [sys.executable, "-c", _FAULTS.format(context=context)],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(answer.stdout)


def test_memory_is_kept_between_steps():
    assert faults("kept_memory()") < 1000
    assert faults("nullcontext()") > 20 * 5000


def test_memory_is_given_back():
    with kept_memory():
        held = torch.ones(40_000_000)
        most = _resident()
        del held
        assert _resident() > most - 50e6
    assert _resident() < most - 100e6
    later = torch.ones(40_000_000)
    most = _resident()
    del later  # Nor is what is freed after it kept.
    assert _resident() < most - 100e6


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
