"""How hard the synthetic twin is: chance, a linear classifier, the network, the federation.

All figures are 3-class UF1 on held-out subjects, who are divided off at every site as a site does
it in a federation; confusion matrices of the sites are pooled, and for the federation the mean over
sites is given too. Each figure comes as mean and range over seeds, each
seed a twin of its own. The network sees every clip rounds x epochs times, alone and federated.

    python -m benchmarks.twin_learnability --scale 0.1 --seeds 3
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedpsyau_client.local_training.site import derived_seed
from fedpsyau_client.splits import split_by_subject
from fedpsyau_client.synthetic.clip_motion import Difficulty
from fedpsyau_client.synthetic.twin import (
    SyntheticPartition,
    make_partition,
    partition_clips,
    planned_partitions,
)
from fedpsyau_model.action_units import AUS
from fedpsyau_model.calibration import calibrate_batch_norm
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.metrics import confusion_matrix, uf1
from fedpsyau_model.model_state import load_state_arrays, shared_names, state_arrays
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.schedules import epochs_alone, epochs_of_round
from fedpsyau_model.settings import (
    FederationSettings,
    LossSettings,
    NetworkSettings,
    TrainingSettings,
)
from fedpsyau_model.training import Pull, predict, train
from fedpsyau_server.fusion import Contribution, fuse_personalised
from fedpsyau_server.packed_model import ModelInMemory, unpacked

CLASSES = CLASS_NAMES["three"]

#: Inverse regularisation of the linear classifier; the best on the held-out subjects is reported,
#: which flatters it.
LINEAR_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)


#: Shares of the training clips that the growing study trains on.
SHARES = (0.33, 1.0)


@dataclass(frozen=True)
class SiteClips:
    """Training and held-out clips of one site."""

    name: str
    training: ClipTensors
    held_out: ClipTensors


def make_sites(scale: float, seed: int, difficulty: Difficulty) -> list[SiteClips]:
    """Make a twin in memory and divide every site's subjects as the site itself would."""
    return [
        _divided(partition.name, make_partition(partition, seed, difficulty=difficulty), seed)
        for partition in planned_partitions(scale)
    ]


def _divided(name: str, made: SyntheticPartition, seed: int) -> SiteClips:
    table = partition_clips(name, made.labels)
    labels = np.array([CLASSES.index(each) for each in table.class3])
    split = split_by_subject(
        table.subject, 0.3, np.random.default_rng(derived_seed(seed, name, 0)), labels
    )
    training, held_out = (
        ClipTensors(
            flow=torch.from_numpy(made.flow[rows]),
            rois=torch.from_numpy(made.rois[rows]),
            emotion=torch.from_numpy(labels[rows]),
            au=torch.from_numpy(table.aus[rows].astype(np.float32)),
            au_known=torch.from_numpy(np.repeat(table.au_known[rows, None], len(AUS), axis=1)),
        )
        for rows in (split.train, split.test)
    )
    return SiteClips(name, training, held_out)


def pooled(parts: Sequence[ClipTensors]) -> ClipTensors:
    """Put the clips of several sites together."""
    return ClipTensors(
        *(
            torch.cat([getattr(part, field) for part in parts])
            for field in ("flow", "rois", "emotion", "au", "au_known")
        )
    )


def score(clips: ClipTensors, predicted: np.ndarray) -> float:
    """UF1 of predicted classes (N,)."""
    return uf1(confusion_matrix(clips.emotion.numpy(), predicted, len(CLASSES)))


def commonest_class(training: ClipTensors, held_out: ClipTensors) -> float:
    """UF1 of always saying the commonest class."""
    commonest = int(torch.bincount(training.emotion).argmax())
    return score(held_out, np.full(len(held_out), commonest))


def linear_on_flow(training: ClipTensors, held_out: ClipTensors) -> float:
    """UF1 of a logistic regression on the standardised global flow, at its best strength."""
    scores = []
    for strength in LINEAR_STRENGTHS:
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=300)
        )
        model.fit(training.flow.flatten(1).numpy(), training.emotion.numpy())
        scores.append(score(held_out, model.predict(held_out.flow.flatten(1).numpy())))
    return max(scores)


def network_alone(
    training: ClipTensors, held_out: ClipTensors, epochs: int, seed: int, settings: TrainingSettings
) -> float:
    """UF1 of the network trained in one place."""
    network = build_network(NetworkSettings(), seed)
    plan = epochs_alone(epochs, settings)
    train(
        network,
        training,
        plan,
        training=settings,
        loss=LossSettings(),
        generator=torch.Generator().manual_seed(seed),
    )
    calibrate_batch_norm(network, training, plan[-1].prior_weight)
    return score(held_out, predicted_classes(network, held_out, plan[-1].prior_weight))


def predicted_classes(network: AuGatDsi, clips: ClipTensors, prior_weight: float) -> np.ndarray:
    """Classes (N,) that the network gives."""
    return predict(network, clips, prior_weight).emotion.argmax(dim=1).numpy()


def federation(
    sites: Sequence[SiteClips], rounds: int, settings: FederationSettings
) -> tuple[dict[str, float], float]:
    """UF1 of every site's trained model after the last round of P-FedProx, and of all together.

    The same steps as a site and the server take, without the network between them.
    """
    network = build_network(settings.network, settings.seed, settings.shared_priors())
    shared = shared_names(network, settings.strategy.batch_norm)
    initial = state_arrays(network)
    received: dict[str, Mapping[str, np.ndarray]] = {site.name: initial for site in sites}
    confusions: dict[str, np.ndarray] = {}
    for round_number in range(1, rounds + 1):
        epochs = epochs_of_round(round_number, rounds, settings.training)
        contributions = {}
        for site in sites:
            sent = {name: received[site.name][name] for name in shared}
            load_state_arrays(network, initial | sent)
            train(
                network,
                site.training,
                epochs,
                training=settings.training,
                loss=settings.loss,
                generator=torch.Generator().manual_seed(
                    derived_seed(settings.seed, site.name, round_number)
                ),
                pull=Pull(sent, settings.loss.alpha4),
            )
            trained = state_arrays(network)
            contributions[site.name] = Contribution(
                ModelInMemory.of({name: trained[name] for name in shared}), len(site.training)
            )
            calibrate_batch_norm(network, site.training, epochs[-1].prior_weight)
            classes = predicted_classes(network, site.held_out, epochs[-1].prior_weight)
            confusions[site.name] = confusion_matrix(
                site.held_out.emotion.numpy(), classes, len(CLASSES)
            )
        fused = fuse_personalised(contributions, settings.strategy.theta)
        received = {name: unpacked(model) for name, model in fused.items()}
    return {name: uf1(each) for name, each in confusions.items()}, uf1(sum(confusions.values()))


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    settings = {"batch-size": arguments.batch_size, "epochs": arguments.epochs}
    difficulty = Difficulty()
    figures: dict[str, list[float]] = defaultdict(list)
    started = time.monotonic()
    for seed in range(arguments.seeds):
        sites = make_sites(arguments.scale, seed, difficulty)
        for share in SHARES:
            training, held_out = pooled_share(sites, share, seed)
            line = f"{len(training)} clips of all sites"
            figures[f"commonest class, {line}"].append(commonest_class(training, held_out))
            figures[f"linear on the global flow, {line}"].append(linear_on_flow(training, held_out))
            alone = TrainingSettings.model_validate(settings)
            epochs = arguments.rounds * arguments.epochs
            score_alone = network_alone(training, held_out, epochs, seed, alone)
            figures[f"network, {line}"].append(score_alone)
        plan = FederationSettings.model_validate({"seed": seed, "training": settings})
        per_site, together = federation(sites, arguments.rounds, plan)
        figures["P-FedProx, mean over sites"].append(float(np.mean(list(per_site.values()))))
        figures["P-FedProx, worst site"].append(min(per_site.values()))
        figures["P-FedProx, all sites pooled"].append(together)
    print(
        f"scale {arguments.scale}, {arguments.rounds} rounds of {arguments.epochs} epochs, ", end=""
    )
    print(f"batch {arguments.batch_size}, seeds 0 to {arguments.seeds - 1}")
    for name, values in figures.items():
        print(f"{name:50} UF1 {np.mean(values):.3f}  ({min(values):.3f} to {max(values):.3f})")
    print(f"{time.monotonic() - started:.0f} s")


def pooled_share(
    sites: Sequence[SiteClips], share: float, seed: int
) -> tuple[ClipTensors, ClipTensors]:
    """Pool a random share of the training clips of every site, and all held-out clips."""
    generator = np.random.default_rng(seed)
    parts = []
    for site in sites:
        count = max(round(share * len(site.training)), 2)
        rows = np.sort(generator.permutation(len(site.training))[:count])
        parts.append(site.training.subset(torch.from_numpy(rows)))
    return pooled(parts), pooled([site.held_out for site in sites])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N-1")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=2, help="local epochs of a round")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
