"""The closed schema of what crosses the wire."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedpsyau_model import __version__, exchange
from fedpsyau_model.exchange import (
    OPTIONAL_PARTS,
    SCHEMA_VERSION,
    Acknowledgement,
    Dismissal,
    Hello,
    Introduction,
    MalformedMessageError,
    OptionalPart,
    TrainingOrder,
    TrainingReport,
    disagreement,
    hello,
    pack_tensors,
    unpack_tensors,
)
from fedpsyau_model.settings import FederationSettings

#: One valid message of every type.
VALUES: dict[type[Any], dict[str, Any]] = {
    Hello: {
        "run_id": "r",
        "version": "0.1.0",
        "schema_version": 1,
        "agreement": "{}",
        "agreement_hash": "ab",
        "rounds": 20,
        "min_sites": 2,
    },
    Introduction: {
        "partition": "dfme_c1",
        "instance": "0011",
        "version": "0.1.0",
        "schema_version": 1,
        "agreement_hash": "ab",
        "train_clips": 5,
        "test_clips": 0,
        "synthetic": True,
        "refusal": "",
    },
    Dismissal: {"reason": "done", "exit_code": 0},
    Acknowledgement: {"partition": "dfme_c1"},
    TrainingOrder: {"run_id": "r", "round": 1, "rounds": 20, "sites": 7, "all_clips": 0},
    TrainingReport: {
        "partition": "dfme_c1",
        "run_id": "r",
        "round": 1,
        "train_clips": 10,
        "test_clips": 2,
        "confusion_received": [1, 0, 1, 0],
        "confusion_trained": [1, 0, 0, 1],
        "loss_total": 1.5,
        "loss_emotion": 1.0,
        "loss_au": 0.25,
        "loss_au_aux": 0.25,
        "loss_proximal": 0.0,
        "fisher_trace": 0.0,
        "theta": 0.0,
        "train_seconds": 0.5,
    },
}

MESSAGES = [pytest.param(kind, id=kind.__name__) for kind in VALUES]


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_comes_back_from_its_values(kind: Any) -> None:
    message = kind.from_values(VALUES[kind])
    assert message.to_values() == VALUES[kind]
    assert kind.from_values(message.to_values()) == message


def test_no_message_type_is_left_out_here() -> None:
    defined = {
        value
        for value in vars(exchange).values()
        if isinstance(value, type) and issubclass(value, exchange._Message)
    } - {exchange._Message}
    assert defined == set(VALUES)


def test_what_leaves_a_site_is_this_and_nothing_else() -> None:
    # Written out, so that a new field is a decision and not an accident (design section 7).
    assert set(Introduction.model_fields) | set(TrainingReport.model_fields) == {
        *("partition", "instance", "version", "schema_version", "agreement_hash"),
        *("train_clips", "test_clips", "synthetic", "refusal", "run_id", "round"),
        *("confusion_received", "confusion_trained"),
        *("loss_total", "loss_emotion", "loss_au", "loss_au_aux", "loss_proximal"),
        *("fisher_trace", "theta", "train_seconds"),
    }


@pytest.mark.parametrize("kind", MESSAGES)
def test_an_unknown_key_is_refused_by_name_without_its_value(kind: Any) -> None:
    with pytest.raises(MalformedMessageError) as error:
        kind.from_values(VALUES[kind] | {"subject": "sub-0042"})
    assert "subject" in str(error.value)
    assert kind.__name__ in str(error.value)
    assert "sub-0042" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_missing_key_is_refused_by_name(kind: Any) -> None:
    for key in VALUES[kind]:
        values = {name: value for name, value in VALUES[kind].items() if name != key}
        part = next((part for part, keys in OPTIONAL_PARTS.items() if key in keys), key)
        if kind is TrainingReport and OPTIONAL_PARTS.get(part) == (key,):
            assert kind.from_values(values).kept_back == (part,)
            continue
        with pytest.raises(MalformedMessageError, match=rf"missing.*\b{part}\b"):
            kind.from_values(values)


@pytest.mark.parametrize("part", OPTIONAL_PARTS)
def test_a_site_may_keep_a_whole_part_of_its_report_to_itself(part: OptionalPart) -> None:
    report = TrainingReport.from_values(VALUES[TrainingReport]).without([part])
    assert report.kept_back == (part,)
    values = report.to_values()
    assert VALUES[TrainingReport].keys() - values.keys() == set(OPTIONAL_PARTS[part])
    assert TrainingReport.from_values(values) == report


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (TrainingReport, "train_clips", 0),
        (TrainingReport, "test_clips", -1),
        (TrainingReport, "train_clips", "10"),
        (TrainingReport, "train_clips", 10.0),
        (TrainingReport, "train_clips", True),
        (TrainingReport, "loss_total", float("nan")),
        (TrainingReport, "loss_au", float("inf")),
        (TrainingReport, "train_seconds", -0.1),
        (TrainingReport, "fisher_trace", -0.1),
        (TrainingReport, "fisher_trace", float("inf")),
        (TrainingReport, "theta", 1.1),
        (TrainingReport, "confusion_trained", [1, 0, 0, 0.5]),
        (TrainingReport, "confusion_trained", "1001"),
        (TrainingOrder, "round", 0),
        (Introduction, "synthetic", 1),
        (Introduction, "partition", b"dfme_c1"),
        (Dismissal, "exit_code", "0"),
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_by_key(kind: Any, key: str, value: Any) -> None:
    with pytest.raises(MalformedMessageError, match=rf"wrong or missing {key}"):
        kind.from_values(VALUES[kind] | {key: value})


def test_messages_cannot_be_changed() -> None:
    message = Dismissal(reason="done", exit_code=0)
    with pytest.raises(ValueError, match="frozen"):
        message.exit_code = 3  # type: ignore[misc]


# Joining ------------------------------------------------------------------------------------------


def test_the_greeting_holds_the_agreement_and_not_the_coordinators_own() -> None:
    settings = FederationSettings.model_validate({"strategy": {"theta": 0.8}})
    greeting = hello(settings, "run")
    assert json.loads(greeting.agreement) == settings.agreement()
    assert "server" not in json.loads(greeting.agreement)
    assert greeting.agreement_hash == settings.agreement_hash()
    assert (greeting.version, greeting.schema_version) == (__version__, SCHEMA_VERSION)


def side(**changes: Any) -> dict[str, Any]:
    return {"version": "0.1.0", "schema_version": 1, "agreement_hash": "a" * 64} | changes


def test_equal_sides_do_not_disagree() -> None:
    assert disagreement(side(), side(), "server", "dfme_c1") == ""


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ({"version": "0.2.0"}, ["package version (server: 0.1.0, dfme_c1: 0.2.0)"]),
        ({"schema_version": 2}, ["message schema (server: 1, dfme_c1: 2)"]),
        ({"agreement_hash": "b" * 64}, ["hash at server: aaaaaaaaaaaa, at dfme_c1: bbbbbbbbbbbb"]),
        ({"version": "9", "schema_version": 9}, ["dfme_c1: 9); message schema (server: 1"]),
    ],
)
def test_a_disagreement_is_told_with_both_values(theirs: dict[str, Any], told: list[str]) -> None:
    text = disagreement(side(), side(**theirs), "server", "dfme_c1")
    for part in told:
        assert part in text


def test_settings_that_differ_are_named_where_both_sides_are_known() -> None:
    ours = side(agreement={"strategy": {"theta": 0.9}, "seed": 0})
    theirs = side(agreement={"strategy": {"theta": 0.8}, "seed": 0}, agreement_hash="b" * 64)
    text = disagreement(ours, theirs, "dfme_c1", "server")
    assert "strategy.theta: here 0.9, there 0.8" in text
    assert "seed" not in text


# Tensors ------------------------------------------------------------------------------------------

TENSORS = st.dictionaries(
    st.text("abc._0", min_size=1, max_size=8),
    st.one_of(
        *(
            hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
            for dtype in (np.float32, np.float64, np.int64, np.uint8, np.bool_)
        )
    ),
    max_size=4,
)


@given(TENSORS)
def test_tensors_come_back_bit_for_bit(tensors: dict[str, np.ndarray]) -> None:
    unpacked = unpack_tensors(pack_tensors(tensors))
    assert unpacked.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert unpacked[name].dtype == tensor.dtype
        assert unpacked[name].shape == tensor.shape
        assert unpacked[name].tobytes() == tensor.tobytes()


def test_equal_models_give_equal_bytes_whatever_their_order() -> None:
    one, two = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, dtype=np.float32)
    assert pack_tensors({"one": one, "two": two}) == pack_tensors({"two": two, "one": one})


def test_a_tensor_that_is_not_contiguous_keeps_its_values() -> None:
    tensor = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert np.array_equal(unpack_tensors(pack_tensors({"w": tensor}))["w"], tensor)


PACKED = pack_tensors({"w": np.arange(8, dtype=np.float32)})


@pytest.mark.parametrize("length", [0, 1, 7, 8, 20, len(PACKED) - 1])
def test_a_truncated_model_is_refused(length: int) -> None:
    with pytest.raises(MalformedMessageError, match="cannot be read"):
        unpack_tensors(PACKED[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"not a model",
        b"\xff" * 64,
        PACKED + b"x",
        PACKED.replace(b'"F32"', b'"F99"'),
        PACKED.replace(b"[8]", b"[9]"),
        PACKED.replace(b'"F32"', b'"F32'),
    ],
)
def test_a_damaged_model_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="cannot be read"):
        unpack_tensors(data)


def with_header(header: bytes, body: bytes = bytes(8)) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


W = b'"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


def test_what_is_wrong_with_the_following_is_not_their_form() -> None:
    assert unpack_tensors(with_header(b"{" + W + b"}"))["w"].shape == (2,)


@pytest.mark.parametrize(
    "data",
    [
        with_header(b"{" + W + b"," + W + b"}"),
        with_header(b"{" + W.replace(b"[2]", b"[1099511627776]") + b"}"),
        with_header(
            b'{"w":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}', b""
        ),
        with_header(
            b'{"w":{"dtype":"F32","shape":[0' + b",1" * 99 + b'],"data_offsets":[0,0]}}', b""
        ),
        with_header(b"{" + W.replace(b"[2]", b"[-2]") + b"}"),
        with_header(b"{" + W.replace(b"[0,8]", b"[8,16]") + b"}", bytes(16)),
        with_header(b"{" + W.replace(b"F32", b"BF16").replace(b"[2]", b"[4]") + b"}"),
        with_header(b"[" * 100_000 + b"]" * 100_000),
        with_header(b'{"\xff":1}'),
        (1 << 62).to_bytes(8, "little") + b"{}",
    ],
    ids=[
        "a name twice",
        "a huge shape",
        "a huge shape of nothing",
        "too many dimensions",
        "a negative shape",
        "a hole",
        "a type that NumPy lacks",
        "deep nesting",
        "no text",
        "a huge header",
    ],
)
def test_a_model_that_was_made_to_do_harm_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="cannot be read"):
        unpack_tensors(data)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_end_in_tensors_or_in_our_error(data: bytes) -> None:
    with contextlib.suppress(MalformedMessageError):
        unpack_tensors(data)


@given(st.integers(8, len(PACKED) - 33), st.integers(0, 255))
def test_a_changed_byte_of_the_header_ends_in_tensors_or_in_our_error(
    position: int, value: int
) -> None:
    with contextlib.suppress(MalformedMessageError):
        unpack_tensors(PACKED[:position] + bytes([value]) + PACKED[position + 1 :])
