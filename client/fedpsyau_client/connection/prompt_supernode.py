"""Flower's SuperNode, which does not sleep while there is something to do.

Started by `supernode.py` as ``python -m fedpsyau_client.connection.prompt_supernode``, with the
flags of ``flower-supernode``. Flower's own

- asks the server for messages every 3 s. Here a pause is `IDLE_SHARE` of the time that nothing has
  come for, from `FIRST_PAUSE` to those 3 s: short while a round is on, long where others train for
  hours, so that a thousand idle sites ask no more than Flower's would;
- looks every 0.5 s whether the answer is there, and again for each of its parts;
- waits 1, 2, 4, ... s for a part of a message that the server is still uploading;
- answers a trainer at once that asks for work, or for what is still on its way from the server.
  Here it waits until that is there, for at most `LONGEST_WAIT`: a trainer goes on at once and need
  not ask all the time;
- takes in what it is sent piece by piece: see `fedpsyau_model.whole_requests`.

The names that are replaced are Flower's internals: tests/client/test_prompt_supernode.py checks
them under the exact pin in pyproject.toml.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.runtime_pb2 import AcquireTaskResponse
from flwr.supercore.inflatable.inflatable_utils import pull_objects

from fedpsyau_model.child_process import run_and_leave
from fedpsyau_model.whole_requests import WholeRequests

__all__ = ["FLOWERS_IDLE_PAUSE", "LONGEST_WAIT", "PromptClock", "main", "patient"]

Handler = Callable[..., Any]

#: Seconds for which Flower sleeps when no message was waiting; it sleeps less for anything else.
FLOWERS_IDLE_PAUSE = 3.0

#: Seconds between two questions for a message right after one was dealt with, and the share of the
#: time without one that a pause is later.
FIRST_PAUSE = 0.25
IDLE_SHARE = 0.05

#: Seconds between two looks, in this process, for an answer or a part of one.
ANSWER_PAUSE = 0.1

#: Seconds for which a trainer is kept waiting; it has other things to look after, too.
LONGEST_WAIT = 2.0

#: Seconds between two questions for a part that the server does not have yet: first and longest.
FIRST_PULL_PAUSE = 0.1
LAST_PULL_PAUSE = 1.0


def patient(handler: Handler, is_there: Callable[[Any], bool]) -> Handler:
    """A handler of Flower's, which does not answer before there is what was asked for.

    At the end of `LONGEST_WAIT` it answers as it stands.
    """

    def wait_for_it(*asked: Any) -> Any:
        deadline = time.monotonic() + LONGEST_WAIT
        while not is_there(answer := handler(*asked)) and time.monotonic() < deadline:
            time.sleep(ANSWER_PAUSE)
        return answer

    return wait_for_it


class PromptClock:
    """What stands in for the module `time` in Flower's loop, which only sleeps.

    sleep, now: the real ones, or a test's.
    """

    def __init__(
        self,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sleep = sleep
        self._now = now
        self._busy_until = now()

    def sleep(self, seconds: float) -> None:
        """Sleep for as long as is right in the place of Flower's `seconds`."""
        if seconds >= FLOWERS_IDLE_PAUSE:
            idle = self._now() - self._busy_until
            self._sleep(min(seconds, max(FIRST_PAUSE, IDLE_SHARE * idle)))
            return
        self._sleep(min(seconds, ANSWER_PAUSE))
        self._busy_until = self._now()  # an answer is being made, or sent


def _is_task(answer: AcquireTaskResponse) -> bool:
    return bool(answer.token)


def _is_decided(answer: PullObjectResponse) -> bool:
    return answer.object_available or not answer.object_found


def _in_whole_requests(create_app: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: WholeRequests(create_app(*arguments, **options))


def main() -> None:
    """Run the SuperNode with the short pauses in place of Flower's."""
    # The package has a function of the module's name, which an import statement would find.
    loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
    loop.time = PromptClock()
    loop.pull_objects = partial(
        pull_objects,
        max_tries_per_object=None,  # more of them fit into Flower's two hours
        initial_backoff=FIRST_PULL_PAUSE,
        backoff_cap=LAST_PULL_PAUSE,
    )
    handlers: Any = importlib.import_module("flwr.supernode.servicer.runtime.runtime_handlers")
    handlers.acquire_task = patient(handlers.acquire_task, _is_task)
    handlers.pull_object = patient(handlers.pull_object, _is_decided)
    interface: Any = importlib.import_module("flwr.supernode.main")
    interface.create_app = _in_whole_requests(interface.create_app)
    sys.argv[0] = "flower-supernode"
    importlib.import_module("flwr.supernode.cli.flower_supernode").flower_supernode()


if __name__ == "__main__":
    run_and_leave(main)
