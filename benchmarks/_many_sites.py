"""A federation of a thousand sites at the level of messages, and what must come of it.

Behind the real round loop are sites that are plain arithmetic: in every round 2 % of them answer
too late, 1 % answer in round 1 and never again, 0.5 % send something that must not be used, and a
few join in round 2. What the server sends, keeps and refuses is compared with a plan that was drawn
before, and with the definition of P-FedProx written down as one product of matrices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedpsyau_model import __version__
from fedpsyau_model.exchange import (
    SCHEMA_VERSION,
    Tensors,
    TrainingReport,
    pack_tensors,
    unpack_tensors,
)
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.packed_model import unpacked
from fedpsyau_server.rounds import Order, Reply
from fedpsyau_server.run_folder import RunConfig, RunFolder

__all__ = ["ManySites", "Plan", "check_run", "new_run"]

THETA = 0.9
SHARES = {"late": 0.02, "never": 0.01, "bad": 0.005}

#: What a bad reply is like, and what the reason for not using it says.
FAULTS = {
    "nan": "not finite",
    "shape": "tensor bias is float32 (4,), not float32 (5,)",
    "dtype": "is float64",
    "tensors": "tensors missing: ['bias']",
    "junk": "cannot be read",
    "clips": "training clips, and enrolled",
    "round": "it answers for",
    "norm": "update norm",
}


@dataclass(frozen=True)
class Plan:
    """Who does what in which round, drawn from a seed.

    clips: by site. late: sites that do not answer in time, by round. never: sites that answer in
    round 1 only. bad: kind of fault by site, by round. newcomers: sites that join in round 2.
    """

    clips: dict[str, int]
    late: dict[int, set[str]]
    never: set[str]
    bad: dict[int, dict[str, str]]
    newcomers: set[str]

    @classmethod
    def draw(cls, sites: int, rounds: int, seed: int) -> Plan:
        """A plan for `sites` sites."""
        generator = np.random.default_rng(seed)
        names = [f"site{k:04d}" for k in range(sites)]
        counts = {kind: max(1, round(share * sites)) for kind, share in SHARES.items()}
        shuffled = [str(name) for name in generator.permutation(names)]
        never, newcomers = shuffled[: counts["never"]], shuffled[counts["never"] :][:3]
        others = shuffled[counts["never"] + 3 :]
        late, bad = {}, {}
        kinds = list(FAULTS)
        for number in range(1, rounds + 1):
            drawn = [str(name) for name in generator.permutation(others)]
            late[number] = set(drawn[: counts["late"]])
            faulty = drawn[counts["late"] :][: counts["bad"]]
            first = (number - 1) * counts["bad"]
            bad[number] = {site: kinds[(first + k) % len(kinds)] for k, site in enumerate(faulty)}
        clips = {
            name: int(count)
            for name, count in zip(names, generator.integers(5, 400, sites), strict=True)
        }
        return cls(clips, late, set(never), bad, set(newcomers))

    def answering(self, number: int) -> list[str]:
        """Sites whose reply of a round is to be used."""
        return [
            site
            for site in self.asked(number)
            if site not in self.silent(number) and site not in self.bad[number]
        ]

    def asked(self, number: int) -> list[str]:
        """Sites that are connected in a round, sorted."""
        return [site for site in self.clips if number > 1 or site not in self.newcomers]

    def silent(self, number: int) -> set[str]:
        """Sites that are asked in a round and do not answer in time."""
        return self.late[number] | (self.never if number > 1 else set())


@dataclass
class ManySites:
    """A SiteLink to the sites of a plan; keeps what was sent and what was answered, by round."""

    plan: Plan
    seed: int
    sent: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    trained: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    next_round: int = 1

    def wait_for_sites(
        self, enough: int, seconds: float, among: Collection[str] | None = None
    ) -> list[str]:
        """See SiteLink."""
        return [s for s in self.plan.asked(self.next_round) if among is None or s in among]

    def enrolled_clips(self, site: str) -> int:
        """See SiteLink."""
        return self.plan.clips[site]

    def exchange(self, orders: Mapping[str, Order], seconds: float) -> Iterator[Reply]:
        """See SiteLink: replies come in an order that changes from round to round."""
        number = next(iter(orders.values())).order.round
        self.next_round = number + 1
        self.sent[number], self.trained[number] = {}, {}
        generator = np.random.default_rng([self.seed, number])
        steps = generator.normal(size=(len(self.plan.clips), 11)).astype(np.float32)
        order = {site: k for k, site in enumerate(self.plan.clips)}
        for site in generator.permutation(sorted(orders)):
            received = unpack_tensors(orders[site].model)
            self.sent[number][site] = flat(received)
            if site not in self.plan.silent(number):
                yield self._answer(number, str(site), orders[site], steps[order[site]])

    def _answer(self, number: int, site: str, order: Order, step: np.ndarray) -> Reply:
        fault = self.plan.bad[number].get(site)
        weights = self.sent[number][site] + step * (1000.0 if fault == "norm" else 1.0)
        if fault is None:
            self.trained[number][site] = weights
        model = _tensors(weights)
        if fault == "nan":
            model["bias"][2] = np.nan
        elif fault == "shape":
            model["bias"] = model["bias"][:4]
        elif fault == "dtype":
            model["bias"] = model["bias"].astype(np.float64)
        elif fault == "tensors":
            del model["bias"]
        report = TrainingReport(
            partition=site,
            run_id=order.order.run_id,
            round=number + (fault == "round"),
            train_clips=self.plan.clips[site] + (fault == "clips"),
            test_clips=3,
            confusion_received=[1, 0, 0, 0, 1, 0, 1, 0, 0],
            confusion_trained=[1, 0, 0, 0, 1, 0, 0, 0, 1],
            loss_total=1.0,
            loss_emotion=0.8,
            loss_au=0.1,
            loss_au_aux=0.1,
            loss_proximal=0.0,
            fisher_trace=0.0,
            theta=0.0,
            train_seconds=0.5,
        )
        return Reply(site, report, b"junk" if fault == "junk" else pack_tensors(model))


def new_run(path: Path, plan: Plan, rounds: int, staleness: int) -> RunFolder:
    """A run folder for the sites of a plan."""
    settings = FederationSettings.model_validate(
        {
            "server": {"sites": list(plan.clips), "runs": str(path.parent)},
            "strategy": {"name": "p-fedprox", "theta": THETA},
            "rounds": {
                "rounds": rounds,
                "min-sites": 2,
                "max-staleness": staleness,
                "keep-rounds": 0,
            },
        }
    )
    config = RunConfig(
        run_id="0123456789abcdef0123456789abcdef",
        version=__version__,
        schema_version=SCHEMA_VERSION,
        agreement_hash=settings.agreement_hash(),
        started="2025-01-01T00:00:00+00:00",
        sites=tuple(plan.clips),
        settings=settings.as_dict(),
    )
    return RunFolder.create(path, config, _tensors(np.zeros(11, dtype=np.float32)))


def check_run(folder: RunFolder, sites: ManySites) -> None:
    """Hold every round against the plan and the definition; AssertionError where they differ."""
    plan = sites.plan
    staleness = folder.config.federation_settings().rounds.max_staleness
    models = {site: np.zeros(11) for site in plan.asked(1)}
    last: dict[str, tuple[int, np.ndarray]] = {}
    for line in folder.rounds():
        number = line["round"]
        for site in plan.newcomers if number == 2 else ():
            clips = np.array([plan.clips[each] for each in sorted(last)], dtype=np.float64)
            weights = np.stack([last[each][1] for each in sorted(last)])
            models[site] = clips @ weights / clips.sum()
        for site, sent in sites.sent[number].items():
            assert np.allclose(sent, models[site], rtol=1e-5, atol=1e-6), (number, site)

        answering = plan.answering(number)
        assert line["answered"] == answering, number
        assert set(line["silent"]) == set(plan.clips) - set(answering) - set(plan.bad[number])
        assert line["quarantined"].keys() == plan.bad[number].keys(), number
        for site, reason in line["quarantined"].items():
            assert FAULTS[plan.bad[number][site]] in reason, (site, reason)

        last |= {site: (number, sites.trained[number][site]) for site in answering}
        last = {site: each for site, each in last.items() if number - each[0] <= staleness}
        rounds = {site: mark["round"] for site, mark in line["contributions"].items()}
        assert rounds == {site: each[0] for site, each in last.items()}, number
        assert not (number > 1 + staleness and rounds.keys() & plan.never), number

        models |= _fused(plan, last, answering)
        stored = folder.models(number)
        assert stored.keys() == models.keys()
        for site, model in stored.items():
            found = flat(unpacked(model))
            assert np.allclose(found, models[site], rtol=1e-5, atol=1e-6), (number, site)


def _fused(
    plan: Plan, last: Mapping[str, tuple[int, np.ndarray]], answering: Collection[str]
) -> dict[str, np.ndarray]:
    """Personal models of the sites that answered, by the definition: means that leave one out."""
    names = sorted(last)
    clips = np.array([plan.clips[site] for site in names], dtype=np.float64)
    others = np.tile(clips, (len(names), 1))
    np.fill_diagonal(others, 0.0)
    others /= others.sum(axis=1, keepdims=True)
    weights = np.stack([last[site][1] for site in names]).astype(np.float64)
    fused = THETA * weights + (1 - THETA) * (others @ weights)
    return {site: each for site, each in zip(names, fused, strict=True) if site in set(answering)}


def _tensors(weights: np.ndarray) -> Tensors:
    return {"weight": weights[:6].reshape(2, 3).copy(), "bias": weights[6:].copy()}


def flat(model: Mapping[str, np.ndarray]) -> np.ndarray:
    """All weights of a model in one row."""
    return np.concatenate([model["weight"].ravel(), model["bias"]])
