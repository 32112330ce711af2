"""What a site does for each strategy.

With a learning rate of nothing, training moves no weight, so that what is left shows where each
model starts and what it is pulled to; losses of the pull are then numbers worked out here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedpsyau_client.local_training.site import Site
from fedpsyau_client.local_training.site_state import SiteState
from fedpsyau_client.settings import ClientSettings
from fedpsyau_client.synthetic.twin import write_twin
from fedpsyau_model.errors import DataDamagedError, WeightsMismatchError
from fedpsyau_model.exchange import (
    Tensors,
    TrainingOrder,
    TrainingReport,
    hello,
    pack_tensors,
    unpack_tensors,
    with_others,
)
from fedpsyau_model.model_state import state_arrays, trainable_names
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import FederationSettings
from fedpsyau_model.travelling import head_names, travelling_names

PARTITION = "dfme_c1"
FROZEN = 1e-30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twin") / "data"
    write_twin(folder, scale=0.01, seed=3)
    return folder


@pytest.fixture
def site(data: Path, tmp_path: Path) -> Iterator[Site]:
    settings = ClientSettings.model_validate(
        {"partition": PARTITION, "data": data, "state": tmp_path / "state", "threads": 1}
    )
    with Site.open(settings) as opened:
        yield opened


def settings(
    name: str, learning_rate: float = FROZEN, seed: int = 0, **strategy: Any
) -> FederationSettings:
    """A federation without the AU branch, to be quick; `strategy` with underscores in its keys."""
    keys = {key.replace("_", "-"): value for key, value in strategy.items()}
    return FederationSettings.model_validate(
        {
            "seed": seed,
            "network": {"au-branch": False},
            "training": {"epochs": 1, "batch-size": 16, "learning-rate": learning_rate},
            "strategy": {"name": name} | keys,
        }
    )


def model(agreed: FederationSettings, seed: int) -> Tensors:
    """A model such as the server might send; every seed gives another."""
    network = build_network(agreed.network, seed)
    arrays = state_arrays(network)
    return {name: arrays[name] for name in travelling_names(network, agreed.strategy)}


def trained(
    site: Site, number: int, received: Tensors, **order: Any
) -> tuple[TrainingReport, Tensors, Tensors]:
    """Report, what was sent, and the personal model that the site keeps."""
    asked = TrainingOrder(
        **({"run_id": "run", "round": number, "rounds": 9, "sites": 2, "all_clips": 0} | order)
    )
    report, sent = site.train(asked, pack_tensors(received))
    return report, unpack_tensors(sent), load_file(site.state.personal_model)


def join(site: Site, agreed: FederationSettings, run_id: str = "run") -> FederationSettings:
    introduction = site.introduce(hello(agreed, run_id))
    assert introduction.refusal == ""
    return agreed


def same(one: Tensors, other: Tensors, names: Any = None) -> bool:
    """Whether the tensors are equal but for rounding."""
    return all(
        np.allclose(one[name], other[name], rtol=0, atol=1e-7) for name in names or one.keys()
    )


def half_square_distance(agreed: FederationSettings, one: Tensors, other: Tensors) -> float:
    names = trainable_names(build_network(agreed.network, 0))
    return 0.5 * sum(
        float(np.square(one[name].astype(float) - other[name]).sum()) for name in names
    )


# The weights that training starts from, and what they are pulled to -----------------------------


def test_mr_mtl_keeps_its_own_model_and_is_pulled_to_the_mean(site: Site) -> None:
    agreed = join(site, settings("mr-mtl", pull=0.25))
    first, second = model(agreed, 1), model(agreed, 2)
    report, sent, personal = trained(site, 1, first)
    assert same(sent, first)
    assert report.loss_proximal == pytest.approx(0, abs=1e-9)
    report, sent, personal = trained(site, 2, second)
    assert same(sent, first)  # what was received has overwritten nothing
    assert same(personal, first, first)
    expected = 0.25 * half_square_distance(agreed, first, second)
    assert report.loss_proximal == pytest.approx(expected, rel=1e-4)


def test_ditto_sends_the_global_model_and_keeps_its_own(site: Site) -> None:
    agreed = join(site, settings("ditto", pull=0.25))
    first, second = model(agreed, 1), model(agreed, 2)
    trained(site, 1, first)
    report, sent, personal = trained(site, 2, second)
    assert same(sent, second)
    assert same(personal, first, first)
    expected = 0.25 * half_square_distance(agreed, first, second)
    assert report.loss_proximal == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["fedrep", "fedas"])
def test_the_head_stays_at_the_site(site: Site, name: str) -> None:
    agreed = join(site, settings(name, align_epochs=1))
    head = head_names(build_network(agreed.network, 0))
    first, second = model(agreed, 1), model(agreed, 2)
    _, sent, personal = trained(site, 1, first)
    assert not set(head) & sent.keys()
    own_head = {key: personal[key] for key in head}
    assert same(own_head, state_arrays(build_network(agreed.network, agreed.seed)), head)
    _, sent, personal = trained(site, 2, second)
    assert same(sent, second)
    assert same(personal, own_head | second, [*head, *second])


def test_finetuning_is_for_evaluation_alone(site: Site) -> None:
    agreed = settings("fedavg-finetune", learning_rate=0.01)
    plain = settings("fedavg", learning_rate=0.01)
    received = model(agreed, 1)
    join(site, plain, "plain")
    report, sent, _ = trained(site, 3, received, run_id="plain")
    join(site, agreed)
    tuned_report, tuned_sent, tuned = trained(site, 3, received)
    assert all(np.array_equal(sent[key], tuned_sent[key]) for key in sent)  # what FedAvg sends
    assert tuned_report.loss_total == report.loss_total
    assert not same(tuned, tuned_sent, received)
    assert not same(tuned, received, received)


# Which part is trained ---------------------------------------------------------------------------


def test_fedrep_trains_head_and_body_one_after_the_other(site: Site) -> None:
    agreed = join(site, settings("fedrep", learning_rate=0.01, head_epochs=1))
    body = model(agreed, 1)
    _, sent, personal = trained(site, 1, body)
    head = head_names(build_network(agreed.network, 0))
    initial = state_arrays(build_network(agreed.network, agreed.seed))
    assert not same(sent, body)
    assert not same(personal, initial, head)
    # The head is trained before the body, so a longer body training leaves the head as it is.
    longer = settings("fedrep", learning_rate=0.01, head_epochs=1).model_copy(
        update={"training": agreed.training.model_copy(update={"epochs": 2})}
    )
    join(site, longer, "longer")
    _, longer_sent, longer_personal = trained(site, 1, body, run_id="longer")
    assert all(np.array_equal(personal[key], longer_personal[key]) for key in head)
    assert not same(sent, longer_sent)


def test_fedas_aligns_only_where_there_is_something_to_align_with(site: Site) -> None:
    sent = {}
    for epochs in (0, 2):
        agreed = join(site, settings("fedas", learning_rate=0.01, align_epochs=epochs), f"{epochs}")
        report, first, _ = trained(site, 1, model(agreed, 1), run_id=f"{epochs}")
        assert report.fisher_trace > 0
        sent[epochs] = first, trained(site, 2, model(agreed, 2), run_id=f"{epochs}")[1]
    assert same(sent[0][0], sent[2][0])
    assert not same(sent[0][1], sent[2][1])


# What is carried from round to round -------------------------------------------------------------


@pytest.mark.parametrize("name", ["fedrep", "fedas", "mr-mtl", "ditto"])
def test_a_round_that_is_asked_again_gives_the_same_bits(site: Site, name: str) -> None:
    agreed = join(site, settings(name, learning_rate=0.01))
    received = [model(agreed, number) for number in range(3)]
    trained(site, 1, received[0])
    _, once, kept = trained(site, 2, received[1])
    _, again, kept_again = trained(site, 2, received[1])
    assert pack_tensors(once) == pack_tensors(again)
    assert pack_tensors(kept) == pack_tensors(kept_again)
    _, third, _ = trained(site, 3, received[2])
    join(site, agreed, "without the first rounds")
    _, alone, _ = trained(site, 3, received[2], run_id="without the first rounds")
    if name != "ditto":  # whose personal model does not touch what it sends
        assert not same(third, alone)


def test_what_is_carried_belongs_to_a_run_and_a_round(tmp_path: Path) -> None:
    def tensors(value: float) -> Tensors:
        return {"w": np.full(2, value, np.float32)}

    def found(run: str, before: int) -> float | None:
        carried = state.carried(run, before)
        return None if carried is None else float(carried["w"][0])

    with SiteState(tmp_path / "state") as state:
        assert found("../../run", 1) is None
        for number in (1, 2, 5):
            state.carry("../../run", number, tensors(number))
        state.carry("other", 1, tensors(100))
        assert [found("../../run", before) for before in (2, 3, 5, 6, 9)] == [None, 2, 2, 5, 5]
        assert found("other", 2) == 100
        state.carry("../../run", 3, tensors(3.5))  # the server went back to an earlier round
        assert [found("../../run", before) for before in (3, 4, 9)] == [2, 3.5, 3.5]
    assert {path.name for path in tmp_path.iterdir()} == {"state"}


def test_a_damaged_state_is_told(site: Site) -> None:
    agreed = join(site, settings("mr-mtl"))
    trained(site, 1, model(agreed, 1))
    (file,) = site.state.personal_model.parent.glob("carried/*/0001.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataDamagedError, match=r"0001\.safetensors.*delete it"):
        trained(site, 2, model(agreed, 1))


# What leaves the site ----------------------------------------------------------------------------


def test_a_server_cannot_ask_for_what_does_not_travel(site: Site) -> None:
    agreed = join(site, settings("fedrep"))
    network = build_network(agreed.network, 0)
    head = head_names(network)[0]
    with pytest.raises(WeightsMismatchError, match=f"not to be sent {head}"):
        trained(site, 1, model(agreed, 1) | {head: state_arrays(network)[head]})
    statistics = "inception.global_stream.0.0.branches.0.1.running_mean"
    with pytest.raises(WeightsMismatchError, match="running_mean"):
        trained(site, 1, model(agreed, 1) | {statistics: state_arrays(network)[statistics]})


def test_no_site_takes_part_in_pooling(site: Site) -> None:
    introduction = site.introduce(hello(settings("pooled"), "run"))
    assert "hand over its clips" in introduction.refusal
    assert introduction.train_clips == 0


# Theta -------------------------------------------------------------------------------------------


def test_a_site_chooses_its_own_model_where_the_others_are_useless(site: Site) -> None:
    agreed = join(site, settings("p-fedprox", theta="auto", learning_rate=0.003))
    own = model(agreed, 1)
    report, sent, _ = trained(site, 1, own)
    assert report.theta == 0.9  # nothing to choose from yet
    useless = {name: -50 * tensor for name, tensor in own.items()}
    report, _, _ = trained(site, 2, with_others(sent, useless), all_clips=100)
    assert report.theta == 1.0


def test_a_site_chooses_the_others_where_they_know_more(site: Site) -> None:
    agreed = join(site, settings("p-fedprox", theta="auto", theta_grid=[0.0, 0.9, 1.0]))
    good = model(agreed, 1)
    useless = {name: -50 * tensor for name, tensor in good.items()}
    trained(site, 1, useless)
    report, _, _ = trained(site, 2, with_others(useless, good))
    assert report.theta == 0.0


def test_a_mean_of_other_tensors_is_refused(site: Site) -> None:
    agreed = join(site, settings("p-fedprox", theta="auto"))
    received = model(agreed, 1)
    strange = {"strange": np.zeros(1, np.float32)}
    with pytest.raises(WeightsMismatchError, match="not to be sent strange"):
        trained(site, 1, with_others(received, received | strange))


def test_choosing_changes_nothing_but_the_clips_that_are_trained_with(site: Site) -> None:
    fixed = site.introduce(hello(settings("p-fedprox", theta=0.9), "fixed"))
    agreed = settings("p-fedprox", theta="auto", learning_rate=0.01)
    chosen = site.introduce(hello(agreed, "run"))
    assert chosen.train_clips < fixed.train_clips
    assert chosen.test_clips == fixed.test_clips
    received = model(agreed, 1)
    trained(site, 1, received)
    _, with_choice, _ = trained(site, 2, with_others(received, model(agreed, 2)))
    _, without, _ = trained(site, 2, received)
    assert all(np.array_equal(with_choice[name], without[name]) for name in without)
