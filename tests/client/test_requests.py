"""What a server may ask for: everything else is refused, on record, with a bare code in return."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.app.error import Error
from random_site import PARTITION, federation, initial, message, order, write_random_data

from fedpsyau_client.app import SiteApp
from fedpsyau_client.local_training.site import Site
from fedpsyau_client.oversight.audit_log import AuditLog
from fedpsyau_client.oversight.policy import Policy
from fedpsyau_client.settings import ClientSettings
from fedpsyau_model.errors import (
    AuditLogError,
    BundleRefusedError,
    JoinRefusedError,
    PolicyRefusedError,
    RequestRefusedError,
    WeightsMismatchError,
)
from fedpsyau_model.exchange import (
    DISMISS,
    HELLO,
    MODEL_RECORD,
    TRAIN,
    VALUES_RECORD,
    Introduction,
    MalformedMessageError,
    TrainingReport,
    hello,
    pack_tensors,
    with_others,
)
from fedpsyau_model.settings import FederationSettings

#: Without the AU branch, to be quick; as many rounds as `order` says.
AGREED = federation(network={"au-branch": False}, rounds={"rounds": 4})

pytestmark = pytest.mark.usefixtures("task")


def bundle(**more: str) -> bytes:
    """The code-free bundle, as an archive, with more files in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        folder = resources.files("fedpsyau_server") / "bundle"
        for name in ("pyproject.toml", "LICENSE"):
            archive.writestr(name, (folder / name).read_bytes())
        for name, text in more.items():
            archive.writestr(name, text)
    return stream.getvalue()


BUNDLE = bundle()
WITH_CODE = bundle(**{"fedpsyau_client/app.py": "import os"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_data(tmp_path_factory.mktemp("data"))


class Asked:
    """A site that is asked as a server asks it."""

    def __init__(self, site: Site, folder: Path, policy: Policy) -> None:
        self.site = site
        self.folder = folder
        self.app = SiteApp(site, policy, AuditLog(folder))

    def ask(self, asked: Message, brought: bytes = BUNDLE) -> Message:
        return self.app.answer(asked, brought)

    def greet(self, settings: FederationSettings = AGREED, run: str = "run") -> Introduction:
        reply = self.ask(message(HELLO, hello(settings, run).to_values()))
        return Introduction.from_values(reply.content.config_records[VALUES_RECORD])

    def lines(self) -> list[dict[str, Any]]:
        text = (self.folder / "000001.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def opened(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all, as loading it takes a while; what came before makes no difference."""
    state = tmp_path_factory.mktemp("state")
    settings = ClientSettings.model_validate(
        {"partition": PARTITION, "data": data, "state": state, "threads": 1}
    )
    with Site.open(settings) as site:
        yield site


@pytest.fixture
def new_site(opened: Site, tmp_path: Path) -> Callable[..., Asked]:
    opened.state.personal_model.unlink(missing_ok=True)

    def make(**policy: Any) -> Asked:
        keys = {key.replace("_", "-"): value for key, value in policy.items()}
        return Asked(opened, tmp_path / "audit", Policy.model_validate(keys))

    return make


@pytest.fixture
def site(new_site: Callable[..., Asked]) -> Asked:
    return new_site()


def packed(model: bytes, **changes: Any) -> ArrayRecord:
    values: dict[str, Any] = {
        "dtype": "uint8",
        "shape": (len(model),),
        "stype": "safetensors",
        "data": model,
    }
    return ArrayRecord({MODEL_RECORD: Array(**(values | changes))})


MODEL = initial(AGREED)
GOOD = pack_tensors(MODEL)
FIRST = sorted(MODEL)[0]


def train(model: bytes | ArrayRecord = GOOD, **changes: Any) -> Message:
    values = order().to_values() | changes
    record = model if isinstance(model, ArrayRecord) else packed(model)
    return message(TRAIN, values, **{MODEL_RECORD: record})


def changed(change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The model with its first tensor changed."""
    return pack_tensors(MODEL | {FIRST: change(MODEL[FIRST].copy())})


def greeting(**changes: Any) -> Message:
    return message(HELLO, hello(AGREED, "run").to_values() | changes)


def replaced(kind: str, name: str, record: Any) -> Message:
    """A message with a record of another kind under a name."""
    received = message(kind, {})
    del received.content[name]
    received.content[name] = record
    return received


def errors_in_place_of_a_request() -> Message:
    return Message(Error(3, "no"), reply_to=greeting())


#: What the server sends, and the error that it is refused with.
UNTRUSTED: dict[str, tuple[Callable[[], Message], type[Exception]]] = {
    # Kinds and records
    "unknown kind": (lambda: message("query.files", {}), MalformedMessageError),
    "unknown action": (lambda: message("train.files", {}), MalformedMessageError),
    "an error": (errors_in_place_of_a_request, MalformedMessageError),
    "a second record": (
        lambda: message(HELLO, hello(AGREED, "run").to_values(), more=ConfigRecord({"a": 1})),
        MalformedMessageError,
    ),
    "metrics in place of values": (
        lambda: replaced(DISMISS, VALUES_RECORD, MetricRecord({"a": 1})),
        MalformedMessageError,
    ),
    "a model with a greeting": (
        lambda: message(HELLO, hello(AGREED, "run").to_values(), **{MODEL_RECORD: packed(GOOD)}),
        MalformedMessageError,
    ),
    "no values": (lambda: message(HELLO, {}), MalformedMessageError),
    "an unknown key": (lambda: greeting(list_your_clips=True), MalformedMessageError),
    "a value of a wrong type": (lambda: greeting(rounds="20"), MalformedMessageError),
    "no rounds": (lambda: greeting(rounds=0), MalformedMessageError),
    # Settings
    "no JSON": (lambda: greeting(agreement="{"), MalformedMessageError),
    "deep JSON": (lambda: greeting(agreement="[" * 100_000), MalformedMessageError),
    "a list of settings": (lambda: greeting(agreement="[]"), MalformedMessageError),
    # Orders
    "an order without a model": (
        lambda: message(TRAIN, order().to_values()),
        MalformedMessageError,
    ),
    "an order without values": (
        lambda: message(TRAIN, {}, **{MODEL_RECORD: packed(GOOD)}),
        MalformedMessageError,
    ),
    "another run": (lambda: train(run_id="another"), JoinRefusedError),
    "round 0": (lambda: train(round=0), MalformedMessageError),
    "a round beyond the last": (lambda: train(round=5), RequestRefusedError),
    "more rounds than were said": (lambda: train(rounds=5), RequestRefusedError),
    "no sites": (lambda: train(sites=0), MalformedMessageError),
    "negative clips": (lambda: train(all_clips=-1), MalformedMessageError),
    # Models
    "an empty model": (lambda: train(b""), MalformedMessageError),
    "half a model": (lambda: train(GOOD[: len(GOOD) // 2]), MalformedMessageError),
    "no model": (lambda: train(b"\xff" * 4000), MalformedMessageError),
    "a pickle": (lambda: train(packed(GOOD, stype="numpy.ndarray")), MalformedMessageError),
    "another type than it says": (lambda: train(packed(GOOD, dtype="f8")), MalformedMessageError),
    "another shape than it says": (lambda: train(packed(GOOD, shape=(7,))), MalformedMessageError),
    "two models": (
        lambda: train(
            ArrayRecord({MODEL_RECORD: packed(GOOD)[MODEL_RECORD], "b": packed(b"x")[MODEL_RECORD]})
        ),
        MalformedMessageError,
    ),
    "a tensor missing": (
        lambda: train(pack_tensors({k: v for k, v in MODEL.items() if k != FIRST})),
        WeightsMismatchError,
    ),
    "a tensor more": (
        lambda: train(pack_tensors(MODEL | {"features.flow": np.zeros(3, np.float32)})),
        WeightsMismatchError,
    ),
    "what should stay": (
        lambda: train(pack_tensors(MODEL | {"bn.running_mean": np.zeros(3, np.float32)})),
        WeightsMismatchError,
    ),
    "others that were not agreed on": (
        lambda: train(pack_tensors(with_others(MODEL, MODEL))),
        WeightsMismatchError,
    ),
    "another shape": (lambda: train(changed(lambda t: t[None])), WeightsMismatchError),
    "one number": (lambda: train(changed(lambda t: t.ravel()[:1])), WeightsMismatchError),
    "another type": (lambda: train(changed(lambda t: t.astype("f8"))), WeightsMismatchError),
    "NaN": (lambda: train(changed(lambda t: t * np.float32("nan"))), RequestRefusedError),
    "infinity": (lambda: train(changed(lambda t: t + np.float32("inf"))), RequestRefusedError),
    "too large": (lambda: train(packed(bytes(31 << 20))), RequestRefusedError),
    # Dismissals
    "a dismissal without a reason": (
        lambda: message(DISMISS, {"exit_code": 0}),
        MalformedMessageError,
    ),
}


@pytest.mark.parametrize("case", UNTRUSTED)
def test_untrusted_requests(new_site: Callable[..., Asked], case: str) -> None:
    """Each is refused with a type of its own; the site goes on, and nothing was trained."""
    make, error = UNTRUSTED[case]
    site = new_site(max_message_mib=30)
    site.greet()
    reply = site.ask(make())
    assert reply.has_error()
    assert (reply.error.code, reply.error.reason) == (error.exit_code, "site failure")  # type: ignore[attr-defined]
    *_, asked, answered = site.lines()
    assert (asked["direction"], asked["decision"]) == ("in", "refused")
    assert asked["why"].startswith(f"{error.__name__}: ")
    assert (answered["kind"], answered["values"]["code"]) == ("error", error.exit_code)  # type: ignore[attr-defined]
    assert not site.site.state.personal_model.exists()
    assert site.app.dismissal is None
    assert site.greet().refusal == ""


@pytest.mark.parametrize(
    "agreement",
    [
        {},
        {"seed": 1},
        AGREED.agreement() | {"strategy": {"name": "telepathy"}},
        AGREED.agreement() | {"server": {"sites": ["x"]}},
    ],
    ids=["none", "in part", "unknown", "more"],
)
def test_settings_that_are_none(site: Asked, agreement: dict[str, Any]) -> None:
    """They are consistent, as their hash is right; yet nobody can train by them."""
    from fedpsyau_model.settings import agreement_hash

    changes = {"agreement": json.dumps(agreement), "agreement_hash": agreement_hash(agreement)}
    reply = site.ask(greeting(**changes))
    assert reply.error.code == MalformedMessageError.exit_code


def test_rounds_do_not_go_backwards(site: Asked) -> None:
    site.greet()
    for number in (1, 3, 3):  # the last may come again: its server may have died in it
        assert not site.ask(train(round=number)).has_error()
    assert site.ask(train(round=2)).error.code == RequestRefusedError.exit_code
    assert "round 2 after round 3" in site.lines()[-2]["why"]
    site.greet()  # a greeting does not make it forget
    assert site.ask(train(round=1)).error.code == RequestRefusedError.exit_code
    assert not site.ask(train(round=4)).has_error()


def test_every_message_is_on_record_with_what_it_held(site: Asked) -> None:
    site.greet()
    reply = site.ask(train())
    site.ask(message(DISMISS, {"reason": "over", "exit_code": 0}))
    assert site.app.dismissal is not None
    lines = site.lines()
    told = [(line["direction"], line["kind"], line.get("decision")) for line in lines]
    assert told == [
        ("note", "opened", None),
        ("in", HELLO, "accepted"),
        ("out", HELLO, "sent"),
        ("note", "tensors", None),
        ("in", TRAIN, "accepted"),
        ("out", TRAIN, "sent"),
        ("in", DISMISS, "accepted"),
        ("out", DISMISS, "sent"),
    ]
    assert {name: tuple(shape) for name, _, shape in lines[3]["tensors"]} == {
        name: tensor.shape for name, tensor in MODEL.items()
    }
    asked, answered = lines[4], lines[5]
    assert (asked["run"], asked["round"]) == (answered["run"], answered["round"]) == ("run", 1)
    assert (
        asked["tensors"]
        == answered["tensors"]
        == {
            "count": len(MODEL),
            "list": lines[3]["list"],
        }
    )
    assert answered["bytes"] > len(GOOD)
    assert answered["values"] == dict(reply.content.config_records[VALUES_RECORD])
    assert "agreement" not in json.dumps(asked["values"])


def test_what_is_kept_back_does_not_leave(new_site: Callable[..., Asked]) -> None:
    site = new_site(metrics=["seconds"])
    site.greet()
    reply = site.ask(train())
    report = TrainingReport.from_values(reply.content.config_records[VALUES_RECORD])
    assert report.kept_back == ("confusion", "losses")
    assert report.train_seconds is not None
    assert not any("loss" in key or "confusion" in key for key in site.lines()[-1]["values"])


@pytest.mark.parametrize(
    ("policy", "key", "words"),
    [
        ({"max_rounds": 3}, "max-rounds", "the run has 4, and 3 are allowed"),
        ({"min_sites": 3}, "min-sites", "2 sites, and at least 3"),
        ({"agreement_hash": "0" * 64}, "agreement-hash", "0" * 64),
    ],
)
def test_a_policy_that_does_not_allow_the_run(
    new_site: Callable[..., Asked],
    caplog: pytest.LogCaptureFixture,
    policy: dict[str, Any],
    key: str,
    words: str,
) -> None:
    """The site is told all of it, the server the key alone."""
    site = new_site(**policy)
    introduction = site.greet()
    assert introduction.refusal == f"what this site's policy allows ({key})"
    assert introduction.train_clips == 0
    assert isinstance(site.app.refusal, PolicyRefusedError)
    assert words in str(site.app.refusal)
    assert words in caplog.text
    assert words in site.lines()[-2]["why"]
    assert site.ask(train()).error.code in (
        PolicyRefusedError.exit_code,
        JoinRefusedError.exit_code,
    )
    assert not site.site.state.personal_model.exists()


def test_a_policy_without_what_a_strategy_needs(new_site: Callable[..., Asked]) -> None:
    site = new_site(metrics=["losses"])
    for strategy, metric in (
        ({"name": "fedas"}, "fisher-trace"),
        ({"theta": "auto"}, "theta"),
    ):
        site.greet(federation(strategy=strategy))
        assert f"needs {metric}" in str(site.app.refusal)
    assert site.greet().refusal == ""
    assert site.app.refusal is None


def test_a_round_with_too_few_sites(new_site: Callable[..., Asked]) -> None:
    site = new_site(min_sites=2)
    assert site.greet().refusal == ""
    assert site.ask(train(sites=1)).error.code == PolicyRefusedError.exit_code
    assert not site.ask(train(sites=2)).has_error()


def test_another_version_is_told_before_the_policy(new_site: Callable[..., Asked]) -> None:
    site = new_site(max_rounds=1)
    reply = site.ask(greeting(version="99.0"))
    assert "99.0" in reply.content.config_records[VALUES_RECORD]["refusal"]  # type: ignore[operator]
    assert site.app.refusal is None


def test_the_proposal_is_kept_even_if_it_is_refused(new_site: Callable[..., Asked]) -> None:
    site = new_site(max_rounds=1)
    site.greet()
    kept = json.loads((site.site.state.audit_folder.parent / "proposed.json").read_text())
    assert kept["agreement"] == AGREED.agreement()
    assert kept["rounds"] == 4


def test_a_bundle_with_code_is_not_answered(site: Asked, caplog: pytest.LogCaptureFixture) -> None:
    for asked in (greeting(), train(), message(DISMISS, {"reason": "over", "exit_code": 0})):
        reply = site.ask(asked, WITH_CODE)
        assert reply.error.code == BundleRefusedError.exit_code
    assert isinstance(site.app.refusal, BundleRefusedError)
    assert site.app.dismissal is None
    assert hashlib.sha256(WITH_CODE).hexdigest() in caplog.text
    assert site.greet().refusal == ""
    assert site.app.refusal is None


def test_an_error_reply_holds_a_code_and_nothing_of_this_machine(
    site: Asked, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    def fail(*_: object) -> None:
        raise OSError(f"{data} is gone")

    site.greet()
    monkeypatch.setattr(site.site, "train", fail)
    reply = site.ask(train())
    assert (reply.error.code, reply.error.reason) == (1, "site failure")
    monkeypatch.setattr(site.site, "introduce", fail)
    assert site.ask(greeting()).error.code == 1
    assert str(data) not in (site.folder / "000001.jsonl").read_text()
    assert site.lines()[-2]["why"] == "OSError"


def test_nothing_is_sent_that_is_not_on_record(
    site: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(AuditLogError, match="No space left"):
        site.ask(greeting())
