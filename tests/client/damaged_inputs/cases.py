"""Running a case: one damaged input, one call, and what must hold whatever comes of it."""

from __future__ import annotations

import signal
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np

from damaged_inputs.file_damage import Damage
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_model.errors import FedPsyAUError

SEED = 20_250_301

#: A case that takes longer hangs. The slowest takes a second on an idle core.
CASE_SECONDS = 30.0


@dataclass(frozen=True)
class Reader:
    """Something that reads what a user gives it.

    write: writes a good input into a folder and returns what is read, a file or a folder.
    read: reads it; may write feature stores into the second path, which does not exist yet.
    damage: what can happen to the input, by name.
    cases: how many of the thousand damaged inputs are for this reader.
    first: number of its first case; damage goes round by the numbers.
    """

    name: str
    cases: int
    write: Callable[[Path, np.random.Generator], Path]
    read: Callable[[Path, Path], object]
    damage: Mapping[str, Damage]
    first: int = 0

    @property
    def numbers(self) -> range:
        """Numbers of its cases."""
        return range(self.first, self.first + self.cases)


@dataclass
class Tally:
    """What came of a reader's cases.

    outcomes: cases by "works" or the name of the typed error. by_damage: the same, for each kind of
    damage. faults: what must not be, with the case's number by which it can be run again.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    by_damage: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    def count(self, damage: str, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self.by_damage.setdefault(damage, Counter())[outcome] += 1

    @property
    def refused(self) -> int:
        return self.outcomes.total() - self.outcomes["works"]


class TookTooLongError(BaseException):
    """The case did not end; no handler of the code under test may catch this."""


def run_reader(reader: Reader, numbers: Sequence[int], folder: Path) -> Tally:
    """Run cases of one reader by their numbers, each in a folder of its own."""
    tally = Tally()
    for number in numbers:
        name, damage = _damage(reader, number)
        where = f"{reader.name}, case {number}, {name}"
        started = time.monotonic()
        outcome = run_case(reader, number, damage, folder / f"{number:04d}")
        tally.slowest = max(tally.slowest, (time.monotonic() - started, where))
        if outcome.startswith("fault: "):
            tally.faults.append(f"{where}: {outcome}")
        tally.count(name, outcome.partition(":")[0])
    return tally


def run_case(reader: Reader, number: int, damage: Damage, folder: Path) -> str:
    """Damage a good input and read it; "works", the typed error's name, or what is wrong."""
    rng = generator(reader.name, number)
    inputs, out = folder / "inputs", folder / "out"
    inputs.mkdir(parents=True)
    target = damage(reader.write(inputs, rng), rng)
    return attempt(lambda: reader.read(target, out), out)


def attempt(call: Callable[[], object], out: Path, seconds: float = CASE_SECONDS) -> str:
    """Call and say what came of it; see `run_case`."""
    try:
        with time_limit(seconds):
            call()
        outcome = "works"
    except FedPsyAUError as error:
        outcome = type(error).__name__
        if not str(error).strip():
            return f"fault: {outcome} says nothing"
    except TookTooLongError:
        return f"fault: not done after {seconds:.0f} s"
    except Exception:
        return f"fault: {traceback.format_exc(limit=-4)}"
    return outcome if not (wrong := half_written(out)) else f"fault: {outcome}, but {wrong}"


def half_written(out: Path) -> str:
    """What in a data folder is neither a feature store nor hidden and meant to stay, or ""."""
    if not out.is_dir():
        return ""
    for entry in sorted(out.parent.iterdir()):
        if entry.name.endswith("partial"):
            return f"{entry.name} was left behind"
    for entry in sorted(out.iterdir()):
        if entry.name.startswith("."):
            if not entry.name.endswith(".work"):
                return f"{entry.name} was left behind"
            continue
        try:
            open_feature_store(entry)
        except FedPsyAUError as error:
            return f"what was written cannot be read: {error}"
    return ""


def generator(name: str, number: int) -> np.random.Generator:
    """Randomness of one case: the same in every run, whichever cases run."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode()), number])


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLongError in the main thread once the time is up.

    SIGUSR1, because pytest-timeout has the alarm clock.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLongError

    main = threading.main_thread().ident
    assert main is not None
    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def _damage(reader: Reader, number: int) -> tuple[str, Damage]:
    """Damage goes round, so that every kind has its share however few cases run."""
    return list(reader.damage.items())[number % len(reader.damage)]
