"""The site without Flower: what it answers, what it keeps, what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from random_site import CLIPS, PARTITION, federation, initial, order, write_random_data
from safetensors.numpy import load_file

from fedpsyau_client.local_training.evaluation import confusion_of
from fedpsyau_client.local_training.site import Site, derived_seed
from fedpsyau_client.local_training.site_state import SiteState
from fedpsyau_client.own_priors.priors_file import PriorsFile
from fedpsyau_client.prediction.recogniser_file import read_recogniser
from fedpsyau_client.settings import ClientSettings
from fedpsyau_model.errors import (
    DataNotFoundError,
    JoinRefusedError,
    NameTakenError,
    PriorsFileError,
    RequestRefusedError,
    SettingsError,
    WeightsMismatchError,
)
from fedpsyau_model.exchange import (
    hello,
    pack_tensors,
    unpack_tensors,
)
from fedpsyau_model.precision import as_half, as_received, as_trained
from fedpsyau_model.temperature import fit_temperature
from fedpsyau_model.training import predict
from fedpsyau_priors import graph_priors, published_priors


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One partition of random motion, eight subjects."""
    return write_random_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def settings(data: Path, tmp_path: Path) -> ClientSettings:
    return ClientSettings.model_validate(
        {"partition": PARTITION, "data": data, "state": tmp_path / "state", "threads": 1}
    )


@pytest.fixture
def site(settings: ClientSettings) -> Iterator[Site]:
    with Site.open(settings) as opened:
        yield opened


def test_introduction_names_counts_and_agrees(site: Site) -> None:
    introduction = site.introduce(hello(federation(), "run"))
    assert introduction.refusal == ""
    assert introduction.agreement_hash == federation().agreement_hash()
    assert introduction.train_clips + introduction.test_clips == CLIPS
    assert introduction.train_clips > introduction.test_clips > 0
    assert introduction.synthetic is True


def test_a_site_that_insists_on_other_settings_refuses_and_says_both_values(
    settings: ClientSettings,
) -> None:
    agreed = federation(strategy={"theta": 0.7})
    with Site.open(settings, agreed) as site:
        introduction = site.introduce(hello(federation(), "run"))
    assert "strategy.theta" in introduction.refusal
    assert "0.7" in introduction.refusal
    assert "0.9" in introduction.refusal
    assert introduction.train_clips == 0


def test_a_server_of_another_version_is_refused_even_if_its_settings_are_unknown_here(
    site: Site,
) -> None:
    agreement = federation().agreement() | {"telepathy": {"range": 3}}
    greeting = hello(federation(), "run").model_copy(
        update={"version": "99.0", "agreement": json.dumps(agreement)}
    )
    introduction = site.introduce(greeting)
    assert "99.0" in introduction.refusal
    assert introduction.train_clips == 0


def test_the_same_order_gives_the_same_bits_whatever_came_before(
    settings: ClientSettings, tmp_path: Path
) -> None:
    model = pack_tensors(initial(federation()))
    with Site.open(settings) as site:
        site.introduce(hello(federation(), "run"))
        first_report, first_model = site.train(order(2), model)
        site.train(order(3), first_model)
        again_report, again_model = site.train(order(2), model)
    other = settings.model_copy(update={"state": tmp_path / "fresh"})
    with Site.open(other) as site:
        site.introduce(hello(federation(), "run"))
        fresh_report, fresh_model = site.train(order(2), model)
    assert first_model == again_model == fresh_model
    for report in (again_report, fresh_report):
        assert report.model_dump(exclude={"train_seconds"}) == first_report.model_dump(
            exclude={"train_seconds"}
        )


@pytest.mark.parametrize(("precision", "came"), [("half", "float16"), ("delta", "int8")])
def test_what_rounding_took_is_added_in_the_next_round_and_survives_a_restart(
    settings: ClientSettings, precision: str, came: str
) -> None:
    agreed = federation(exchange={"precision": precision})
    model = pack_tensors(as_half(initial(agreed), {}).tensors)
    orders = {number: order(number) for number in (1, 2, 3)}

    def residual(number: int) -> dict[str, np.ndarray]:
        (folder,) = (settings.state / PARTITION / "carried").glob("*/residual")
        return load_file(folder / f"{number:04d}.safetensors")

    with Site.open(settings) as site:
        site.introduce(hello(agreed, "run"))
        site.train(orders[1], model)
        _, second = site.train(orders[2], model)
        trained = load_file(site.state.personal_model)
    after_first = residual(1)
    with Site.open(settings) as site:  # the client was killed, and the round is asked for again
        site.introduce(hello(agreed, "run"))
        assert site.train(orders[2], model)[1] == second
        after_second = residual(2)
        _, anew = site.train(orders[1], model)
        site.leave_run()
    assert not list((settings.state / PARTITION).glob("carried/*/residual"))
    tensors, received = unpack_tensors(second), as_received(unpack_tensors(model), initial(agreed))
    assert str(tensors[min(after_first)].dtype) == came
    decoded = as_trained(tensors, agreed.exchange.precision, received)
    taken = 0.0
    for name, tensor in decoded.items():
        intended = trained[name] + after_first[name]
        # Delta's sums go by way of the difference, and round once more in float32.
        assert tensor + after_second[name] == pytest.approx(intended, rel=1e-6, abs=1e-6)
        taken += float(np.abs(after_first[name]).sum())
    assert taken > 0
    # Who begins anew begins with nothing: a round 1 after round 2 is the first one.
    with Site.open(settings) as site:
        site.introduce(hello(agreed, "run"))
        assert site.train(orders[1], model)[1] == anew


@pytest.mark.parametrize("precision", ["half", "delta"])
def test_a_model_in_another_precision_than_agreed_is_refused(site: Site, precision: str) -> None:
    agreed = federation(exchange={"precision": precision})
    site.introduce(hello(agreed, "run"))
    with pytest.raises(WeightsMismatchError, match=r"is float32 .* expects float16 .*exchange"):
        site.require(order(), pack_tensors(initial(agreed)))
    odd = {name: each.copy() for name, each in as_half(initial(agreed), {}).tensors.items()}
    odd[min(odd)].flat[0] = np.inf
    with pytest.raises(RequestRefusedError, match="not finite"):
        site.require(order(), pack_tensors(odd))


def test_rounds_differ_in_their_randomness(site: Site) -> None:
    assert len({derived_seed(0, PARTITION, r) for r in range(50)}) == 50
    assert derived_seed(0, "a", 1) != derived_seed(0, "b", 1) != derived_seed(1, "b", 1)


def test_the_report_counts_the_held_out_clips(site: Site) -> None:
    introduction = site.introduce(hello(federation(), "run"))
    report, _ = site.train(order(), pack_tensors(initial(federation())))
    assert sum(report.confusion_received) == sum(report.confusion_trained) == report.test_clips
    assert (report.train_clips, report.test_clips) == (
        introduction.train_clips,
        introduction.test_clips,
    )
    assert len(report.confusion_trained) == 9


def test_only_trainable_tensors_travel_and_the_whole_model_stays(
    site: Site, settings: ClientSettings
) -> None:
    site.introduce(hello(federation(), "run"))
    _, model = site.train(order(), pack_tensors(initial(federation())))
    sent = unpack_tensors(model)
    kept = load_file(site.state.personal_model)
    assert all(tensor.dtype == np.float32 for tensor in sent.values())
    assert not any("running" in name or "num_batches" in name for name in sent)
    assert sent.keys() < kept.keys()
    assert all(np.array_equal(kept[name], tensor) for name, tensor in sent.items())
    provenance = json.loads((settings.state / PARTITION / "personal.json").read_text())
    assert provenance["round"] == 1
    assert provenance["settings"] == federation().agreement()


def test_the_model_that_stays_can_be_asked_about_a_video(
    site: Site, settings: ClientSettings
) -> None:
    introduction = site.introduce(hello(federation(), "run"))
    report, _ = site.train(order(), pack_tensors(initial(federation())))
    recogniser = read_recogniser(site.state.personal_model)
    facts, run = recogniser.facts, site._run
    assert run is not None
    assert (facts.made_by, facts.config_hash) == ("federation", federation().agreement_hash())
    # It answers as it did in the round: same weights, same statistics, same rho.
    logits = predict(recogniser.network, run.clips.held_out, facts.prior_weight).emotion.numpy()
    assert confusion_of(logits, run.clips).ravel().tolist() == report.confusion_trained
    # Its temperature is that of the held-out clips, on which it was not trained.
    assert facts.calibration is not None
    assert facts.calibration.clips == introduction.test_clips
    truth = run.clips.held_out.emotion.numpy()
    assert facts.calibration.temperature == fit_temperature(logits, truth)


def test_shared_batch_norm_statistics_travel(site: Site) -> None:
    shared = federation(strategy={"batch-norm": "shared"})
    site.introduce(hello(shared, "run"))
    _, model = site.train(order(), pack_tensors(initial(shared)))
    sent = unpack_tensors(model)
    assert any(name.endswith("running_mean") for name in sent)
    assert not any(name.endswith("num_batches_tracked") for name in sent)


def test_the_proximal_term_belongs_to_its_strategies(site: Site) -> None:
    losses = {}
    for name in ("p-fedprox", "fedprox", "fedavg", "local"):
        chosen = federation(strategy={"name": name})
        site.introduce(hello(chosen, name))
        report, _ = site.train(order(run_id=name), pack_tensors(initial(chosen)))
        losses[name] = report.loss_proximal
    assert losses["p-fedprox"] == losses["fedprox"] > 0
    assert losses["fedavg"] == losses["local"] == 0


def test_an_order_of_another_run_is_refused(site: Site) -> None:
    site.introduce(hello(federation(), "run"))
    with pytest.raises(JoinRefusedError, match="has not joined"):
        site.train(order(run_id="another"), pack_tensors(initial(federation())))


def test_a_model_of_another_network_is_refused(site: Site) -> None:
    site.introduce(hello(federation(), "run"))
    wrong = initial(federation())
    wrong.pop(next(iter(wrong)))
    with pytest.raises(WeightsMismatchError, match="missing"):
        site.train(order(), pack_tensors(wrong))


# The site's own priors

#: Twelve AUs that occur alone: each attends to itself, once its own prior weighs fully.
OWN_COUNTS = tuple(tuple(5 * int(i == j) for j in range(12)) for i in range(12))


@pytest.fixture
def own_priors(tmp_path: Path) -> Path:
    file = tmp_path / "priors.json"
    file.write_text(PriorsFile(name="clinic 1", cooccurrence=OWN_COUNTS).to_json())
    return file


def prior_buffers(site: Site) -> list[np.ndarray]:
    assert site._run is not None
    relations = site._run.network.au_branch.relations
    return [graph.prior.numpy() for graph in (relations.upper, relations.lower, relations.whole)]


def test_a_sites_own_priors_survive_an_exchange_and_stay_at_the_site(
    settings: ClientSettings, own_priors: Path
) -> None:
    chosen = federation(network={"priors": "site"})
    # The server's model is built with the shared priors, and still fits.
    model = pack_tensors(initial(chosen))
    with Site.open(settings.model_copy(update={"priors": own_priors})) as site:
        site.introduce(hello(chosen, "run"))
        report, trained = site.train(order(1), model)
        site.train(order(2), trained)
        for found, size in zip(prior_buffers(site), (6, 6, 12), strict=True):
            np.testing.assert_array_equal(found, np.eye(size, dtype=np.float32))
        kept = load_file(site.state.personal_model)
        own = json.loads((settings.state / PARTITION / "personal.json").read_text())["priors"]
        facts = read_recogniser(site.state.personal_model).facts
    assert own["name"] == facts.priors.name == "clinic 1"
    assert own["sha256"] == facts.priors_sha256 == facts.shared_priors().fingerprint()
    assert own["sha256"] != published_priors().fingerprint()
    assert own["sha256"] not in report.model_dump_json()
    for tensors in (unpack_tensors(trained), kept):
        assert not any(name.endswith((".prior", ".edges")) for name in tensors)


def test_own_priors_change_what_is_learned(settings: ClientSettings, own_priors: Path) -> None:
    chosen = federation(network={"priors": "site"})
    model = pack_tensors(initial(chosen))
    trained = []
    for priors in (None, own_priors):
        with Site.open(settings.model_copy(update={"priors": priors})) as site:
            site.introduce(hello(chosen, "run"))
            trained.append(site.train(order(), model)[1])
    assert trained[0] != trained[1]


@pytest.mark.parametrize(("priors", "word"), [("published", "not used"), ("site", "given none")])
def test_shared_priors_are_used_where_own_ones_are_not_in_force(
    settings: ClientSettings,
    own_priors: Path,
    caplog: pytest.LogCaptureFixture,
    priors: str,
    word: str,
) -> None:
    given = own_priors if priors == "published" else None
    with Site.open(settings.model_copy(update={"priors": given})) as site:
        site.introduce(hello(federation(network={"priors": priors}), "run"))
        expected = graph_priors(published_priors())
        found = prior_buffers(site)
    np.testing.assert_array_equal(found[2], expected.whole.prior)
    assert any(word in record.message for record in caplog.records)
    assert str(own_priors) not in caplog.text


def test_priors_that_the_federation_shares_reach_every_site(site: Site) -> None:
    chosen = federation(
        network={"priors": "file"}, priors={"name": "ours", "cooccurrence": OWN_COUNTS}
    )
    site.introduce(hello(chosen, "run"))
    np.testing.assert_array_equal(prior_buffers(site)[0], np.eye(6, dtype=np.float32))


def test_a_bad_file_of_priors_stops_the_site_before_it_joins(
    settings: ClientSettings, tmp_path: Path
) -> None:
    broken = settings.model_copy(update={"priors": tmp_path / "nowhere.json"})
    with pytest.raises(PriorsFileError, match="no file of priors"), Site.open(broken):
        pass


def test_missing_data_leaves_no_state_behind(settings: ClientSettings, tmp_path: Path) -> None:
    elsewhere = settings.model_copy(update={"data": tmp_path / "nowhere"})
    with pytest.raises(DataNotFoundError), Site.open(elsewhere):
        pass
    assert not (tmp_path / "state").exists()


def test_a_device_that_is_not_there(settings: ClientSettings) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with (
        pytest.raises(SettingsError, match="cuda:0"),
        Site.open(settings.model_copy(update={"device": "cuda:0"})),
    ):
        pass


def test_the_state_folder_is_locked_and_known_again(tmp_path: Path) -> None:
    with SiteState(tmp_path / "s") as first:
        instance = first.instance
        with pytest.raises(NameTakenError, match=str(os.getpid())):
            SiteState(tmp_path / "s")
    with SiteState(tmp_path / "s") as again:
        assert again.instance == instance
    with SiteState(tmp_path / "t") as other:
        assert other.instance != instance
