"""Models to and from the sites in fewer bytes: what is added, what is refused, what a crash leaves.

Everything here is small enough that float16 is exact where the test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process_sites import InProcessSites, PlainSite, altered_model, new_run

from fedpsyau_model.errors import RunFolderError
from fedpsyau_model.exchange import Tensors, pack_tensors, unpack_tensors
from fedpsyau_model.precision import as_quantised_difference, as_received, scale_name
from fedpsyau_server.model_wire import MOST_WAITING, ModelWire, UnusableModelError
from fedpsyau_server.packed_model import unpacked
from fedpsyau_server.rounds import Order, Reply, RoundLoop
from fedpsyau_server.run_folder import RunFolder

#: A quarter of float16's step above 1.
QUARTER = 2.0**-12

MODEL: Tensors = {
    "b": np.zeros(2, np.float32),
    "n": np.array(4),
    "w": np.full((2, 3), 1 + QUARTER, np.float32),
}


def sent(folder: Path, number: int, precision: Any = "half", *, goes_on: bool = True) -> Tensors:
    """What a site is sent by a server that was just started; the site answers to it."""
    wire = ModelWire(folder, precision)
    order = wire.pack(number, "a", MODEL, goes_on=goes_on)
    wire.read("a", pack_tensors(honest(precision, order)), lambda: order, MODEL)
    return unpack_tensors(order)


# To the sites -------------------------------------------------------------------------------------


def test_in_full_nothing_is_changed_and_nothing_kept(tmp_path: Path) -> None:
    wire = ModelWire(tmp_path, "full")
    assert wire.pack(1, "a", MODEL, goes_on=False) == pack_tensors(MODEL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["half", "delta"])
def test_what_rounding_took_is_added_while_the_site_answers(tmp_path: Path, precision: Any) -> None:
    first = sent(tmp_path, 1, precision, goes_on=False)
    assert {name: str(tensor.dtype) for name, tensor in first.items()} == {
        "b": "float16",
        "n": "int64",
        "w": "float16",
    }
    later = [sent(tmp_path, number, precision)["w"][0, 0] for number in (2, 3, 4)]
    assert [(float(value) - 1) * 1024 for value in later] == [0, 1, 0]
    # A site that did not answer in round 4 begins with nothing.
    assert sent(tmp_path, 5, goes_on=False)["w"][0, 0] == 1
    assert sent(tmp_path, 6)["w"][0, 0] == 1
    assert sent(tmp_path, 7)["w"][0, 0] == 1 + 2.0**-10
    assert sorted(each.name for each in (tmp_path / "rounding").iterdir()) == ["0006", "0007"]


def test_a_round_that_is_run_again_sends_the_same(tmp_path: Path) -> None:
    sent(tmp_path, 1, goes_on=False)
    sent(tmp_path, 2)
    third = sent(tmp_path, 3)
    assert pack_tensors(sent(tmp_path, 3)) == pack_tensors(third)
    assert third["w"][0, 0] == 1 + 2.0**-10


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_what_cannot_be_added_any_more_is_told(tmp_path: Path, damage: str) -> None:
    sent(tmp_path, 1, goes_on=False)
    file = tmp_path / "rounding" / "0001" / "a.safetensors"
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(RunFolderError, match=r"0001/a\.safetensors cannot be read"):
        ModelWire(tmp_path, "half").pack(2, "a", MODEL, goes_on=True)


def test_a_disk_that_takes_no_more_is_told_before_an_answer_is_taken(tmp_path: Path) -> None:
    (tmp_path / "rounding").write_text("in the way")
    wire = ModelWire(tmp_path, "half")
    order = wire.pack(1, "a", MODEL, goes_on=False)
    with pytest.raises(RunFolderError, match=r"a\.safetensors cannot be written"):
        wire.read("a", pack_tensors(honest("half", order)), lambda: order, MODEL)


def test_many_sites_do_not_wait_for_the_disk_in_memory(tmp_path: Path) -> None:
    wire = ModelWire(tmp_path, "half")
    for number in range(3 * MOST_WAITING):
        wire.pack(1, f"s{number}", MODEL, goes_on=False)
    written = len(list((tmp_path / "rounding" / "0001").glob("*.safetensors")))
    assert written >= 2 * MOST_WAITING


# From the sites -----------------------------------------------------------------------------------


def honest(precision: str, order: bytes) -> Tensors:
    """An answer of a site that has added 1 to every weight."""
    received = as_received(unpack_tensors(order), MODEL)
    trained = {name: tensor + tensor.dtype.type(1) for name, tensor in received.items()}
    if precision == "delta":
        return as_quantised_difference(trained, received, {}).tensors
    return {
        name: tensor.astype(unpack_tensors(order)[name].dtype) for name, tensor in trained.items()
    }


@pytest.mark.parametrize("precision", ["full", "half", "delta"])
def test_an_honest_answer_is_decoded_against_what_was_received(
    tmp_path: Path, precision: Any
) -> None:
    wire = ModelWire(tmp_path, precision)
    order = wire.pack(1, "a", MODEL, goes_on=False)
    received, trained = wire.read("a", pack_tensors(honest(precision, order)), lambda: order, MODEL)
    start = 1 if precision != "full" else 1 + QUARTER
    assert (received["w"] == np.float32(start)).all()
    assert trained["w"] == pytest.approx(np.full((2, 3), start + 1), rel=1e-6)
    assert {name: each.dtype for name, each in trained.items()} == {
        name: each.dtype for name, each in MODEL.items()
    }
    assert trained["n"] == 5


def changed(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Tensors], Tensors]:
    return lambda reply: reply | {name: np.asarray(change(reply[name]))}


def filled(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda tensor: np.full_like(tensor, value)


SCALE = scale_name("w")


@pytest.mark.parametrize(
    ("precision", "damage", "told"),
    [
        ("full", changed("w", np.float16), "tensor w is float16 (2, 3), not float32 (2, 3)"),
        ("half", changed("w", np.float32), 'not float16 (2, 3) ([exchange] precision is "half")'),
        ("half", changed("w", np.int8), "tensor w is int8 (2, 3), not float16"),
        ("half", changed("w", filled(np.nan)), "tensor w holds values that are not finite"),
        ("half", changed("w", filled(-np.inf)), "tensor w holds values that are not finite"),
        ("half", lambda reply: reply | {SCALE: np.ones(2, "f4")}, f"unexpected: ['{SCALE}']"),
        ("delta", changed("w", np.float16), "tensor w is float16 (2, 3), not int8 (2, 3)"),
        ("delta", changed("w", np.float32), '([exchange] precision is "delta")'),
        (
            "delta",
            changed(SCALE, lambda scale: scale[:1]),
            f"{SCALE} is float32 (1,), not float32 (2",
        ),
        (
            "delta",
            changed(SCALE, lambda scale: scale[:, None]),
            "is float32 (2, 1), not float32 (2,",
        ),
        ("delta", changed(SCALE, np.float64), f"tensor {SCALE} is float64 (2,), not float32"),
        (
            "delta",
            changed(SCALE, filled(np.nan)),
            f"tensor {SCALE} holds values that are not finite",
        ),
        (
            "delta",
            changed(SCALE, filled(np.inf)),
            f"tensor {SCALE} holds values that are not finite",
        ),
        ("delta", changed(SCALE, filled(-1)), f"tensor {SCALE} holds values below 0"),
        ("delta", changed(SCALE, filled(3e38)), "decoded, tensor w holds values that are not fin"),
        (
            "delta",
            lambda reply: {name: each for name, each in reply.items() if name != SCALE},
            f"tensors missing: ['{SCALE}']",
        ),
        ("delta", changed("n", np.float32), "tensor n is float32 (), not int64 ()"),
    ],
)
def test_another_answer_is_refused_with_its_reason(
    tmp_path: Path, precision: Any, damage: Callable[[Tensors], Tensors], told: str
) -> None:
    wire = ModelWire(tmp_path, precision)
    order = wire.pack(1, "a", MODEL, goes_on=False)
    with pytest.raises(UnusableModelError) as error:
        wire.read("a", pack_tensors(damage(honest(precision, order))), lambda: order, MODEL)
    assert told in str(error.value)


def test_rubbish_is_refused_with_its_reason(tmp_path: Path) -> None:
    wire = ModelWire(tmp_path, "delta")
    order = wire.pack(1, "a", MODEL, goes_on=False)
    with pytest.raises(UnusableModelError, match="cannot be read"):
        wire.read("a", b"\xa5" * 500, lambda: order, MODEL)


# In the round loop --------------------------------------------------------------------------------


class Sites(InProcessSites):
    """Plain sites that answer in the precision that the run has."""

    def __init__(
        self, sites: Mapping[str, PlainSite], precision: str, first_round: int = 1, stops: int = 99
    ) -> None:
        super().__init__(sites, first_round)
        self._precision = precision
        self._stops = stops

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Any:
        for reply in super().exchange(orders, seconds):
            if max(self.sent) > self._stops:
                raise KeyboardInterrupt
            yield self._in_precision(reply, orders[reply.site])

    def _in_precision(self, reply: Reply, order: Order) -> Reply:
        if self._precision != "delta" or reply.fault:
            return reply
        model = {"w": np.zeros(2, np.float32)}
        received = as_received(unpack_tensors(order.model), model)
        trained = unpack_tensors(reply.model)
        if trained["w"].dtype != np.float16:  # it was altered to be something else
            return reply
        packed = pack_tensors(
            as_quantised_difference(as_received(trained, model), received, {}).tensors
        )
        return replace(reply, model=packed)


def three_sites() -> dict[str, PlainSite]:
    """Sites of which b leaves out a round, and c answers in another precision in one."""
    other = altered_model(lambda model: {name: np.float32(w) for name, w in model.items()})
    return {
        "a": PlainSite(10, 0.1),
        "b": PlainSite(20, 0.3, silent=(3,)),
        "c": PlainSite(30, 0.7, alters={2: other}),
    }


def sections(precision: str) -> dict[str, Any]:
    return {"exchange": {"precision": precision}, "rounds": {"rounds": 5, "keep-rounds": 0}}


@pytest.mark.parametrize("precision", ["half", "delta"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path, precision: str) -> None:
    chosen = sections(precision)
    unbroken = new_run(tmp_path / "unbroken", ("a", "b", "c"), initial=0.3, **chosen)
    RoundLoop(unbroken, Sites(three_sites(), precision)).run()
    for last in (1, 2, 3, 4):
        broken = new_run(tmp_path / f"broken{last}", ("a", "b", "c"), initial=0.3, **chosen)
        with pytest.raises(KeyboardInterrupt):
            RoundLoop(broken, Sites(three_sites(), precision, stops=last)).run()
        reopened = RunFolder.open(broken.path)
        assert reopened.state.round == last
        RoundLoop(reopened, Sites(three_sites(), precision, last + 1)).run()
        for number in range(1, 6):
            for kind in ("models", "replies"):
                folder = f"rounds/{number:04d}/{kind}"
                expected, found = (
                    {file.name: file.read_bytes() for file in (run.path / folder).iterdir()}
                    for run in (unbroken, broken)
                )
                assert found == expected, (last, folder)


@pytest.mark.parametrize("precision", ["half", "delta"])
def test_another_precision_is_quarantined_and_the_round_goes_on(
    tmp_path: Path, precision: str
) -> None:
    folder = new_run(tmp_path / "run", ("a", "b", "c"), initial=0.3, **sections(precision))
    RoundLoop(folder, Sites(three_sites(), precision)).run()
    lines = RunFolder.open(tmp_path / "run").rounds()
    assert [sorted(line["quarantined"]) for line in lines] == [[], ["c"], [], [], []]
    assert f'([exchange] precision is "{precision}")' in lines[1]["quarantined"]["c"]
    assert lines[1]["answered"] == ["a", "b"]
    # The models are near those of a run in full precision.
    full = new_run(tmp_path / "full", ("a", "b", "c"), initial=0.3, **sections("full"))
    sites = three_sites()
    sites["c"].alters = {2: lambda reply: replace(reply, report=None, fault="absent")}
    RoundLoop(full, Sites(sites, "full")).run()
    for site, model in full.models().items():
        rounded = unpacked(folder.models()[site])
        assert rounded["w"] == pytest.approx(unpacked(model)["w"], abs=0.02)
