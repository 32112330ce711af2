"""How a process that trains uses the processor and its memory: waiting threads, freed memory."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["each_on_one_thread", "kept_memory", "let_threads_wait_briefly"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Turns of a waiting thread before it sleeps: some 25 microseconds. A training step has thousands
#: of waits as short as that, and waking a thread up takes longer. Beyond it a thread that waits
#: takes time from other sites on the same cores: by OpenMP's own choice, 7 ms, three sites with
#: two threads each on two cores train at 0.4 of the speed that sleeping at once gives them; by this
#: one at 0.9, while a site alone gains a quarter.
_SPINS = 1000

#: glibc's names for what `mallopt` sets, and what they are set to. While memory is kept, none of it
#: is a mapping of its own and none is given back; otherwise pieces of 32 MB and more are mappings,
#: and 64 MB may be unused, which is how far glibc raises both by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_WHILE_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_OTHERWISE = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}


def let_threads_wait_briefly() -> None:
    """Say how long threads spin while they wait, unless the environment says it.

    NumPy's products get one thread: all of them are tiny here, and a second one of OpenBLAS spins
    for tens of milliseconds after each, which is half of the processor time of preparing a clip
    with a fast flow.

    It is read when torch and NumPy are loaded, so it must be said before.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(_SPINS))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory for the next step while the block runs; give it back at its end.

    A training step takes and frees a hundred megabytes. If the kernel hands them out anew each
    time, a page at a time, that is some 6 % of the step. Nothing happens where the C library is
    not glibc. Blocks may be nested; the outermost one gives back.
    """
    libc = ctypes.CDLL(None)
    if _keeping or not hasattr(libc, "malloc_trim"):
        yield
        return
    _set(libc, _WHILE_KEPT)
    _keeping.append(True)
    try:
        yield
    finally:
        _keeping.pop()
        _set(libc, _OTHERWISE)
        libc.malloc_trim(0)


def _set(libc: ctypes.CDLL, values: Mapping[int, int]) -> None:
    for name, value in values.items():
        libc.mallopt(name, value)


#: Not empty while a block of `kept_memory` runs.
_keeping: list[bool] = []


def each_on_one_thread(
    function: Callable[[_Item], _Result], items: Sequence[_Item]
) -> list[_Result]:
    """Apply a function that works with torch to every item, several at a time.

    As many at a time as torch has threads, and torch's operations in each of them on one: threads
    then need not wait for one another at the end of every operation, and the results do not depend
    on their number. An exception of the function ends it. Returns the results in order.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1 or not items:
        return [function(item) for item in items]
    try:
        # Beside that of its own thread, this sets the number with which new threads begin.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)
