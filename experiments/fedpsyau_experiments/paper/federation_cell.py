"""A cell that is a federation, run by the simulation and tested subject by subject."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fedpsyau_client.local_training.evaluation import held_out_logits
from fedpsyau_client.local_training.site import derived_seed
from fedpsyau_client.local_training.site_clips import divide_clips, divide_rows
from fedpsyau_client.store.feature_store import open_feature_store
from fedpsyau_experiments.paper.cell_result import SubjectCounts
from fedpsyau_experiments.simulation import SITES_FOLDER, resume_simulation, simulate
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.exchange import Tensors, unpack_tensors
from fedpsyau_model.metrics import confusion_matrices
from fedpsyau_model.model_state import load_state_arrays, state_arrays
from fedpsyau_model.network import build_network
from fedpsyau_model.schedules import epochs_of_round
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.packed_model import unpacked
from fedpsyau_server.run_folder import RunFolder

__all__ = ["tested_federation"]

#: Told the share of the cell that is done, in [0, 1].
Tell = Callable[[float], None]


def tested_federation(
    settings: FederationSettings, data: Path, folder: Path, device: str, tell: Tell
) -> SubjectCounts:
    """Simulate a federation, going on where an interrupted one stopped, and count what it learnt.

    folder: the run folder. The model of a site is the one that its scores are of: its own after the
    last round's training.
    """
    run = _finished(settings, data, folder, device, tell)
    last = run.rounds()[-1]["sites"]
    counted = [_by_subject(run, settings, data, site, device) for site in settings.server.sites]
    return SubjectCounts(
        subject=[subject for subjects, _ in counted for subject in subjects],
        part=[
            site
            for site, (subjects, _) in zip(settings.server.sites, counted, strict=True)
            for _ in subjects
        ],
        confusion=[matrix for _, matrices in counted for matrix in matrices.tolist()],
        received={site: each["received"]["confusion"] for site, each in last.items()},
        theta={site: each["theta"] for site, each in last.items()}
        if settings.strategy.chooses_theta
        else None,
    )


def _finished(
    settings: FederationSettings, data: Path, folder: Path, device: str, tell: Tell
) -> RunFolder:
    steps = settings.rounds.rounds * len(settings.server.sites)
    done = 0

    def progress(_round: int, _site: str) -> None:
        nonlocal done
        done += 1
        tell(done / steps)

    if not folder.exists():
        return simulate(settings, data, folder, device=device, progress=progress)
    run = RunFolder.open(folder)
    if run.state.round == settings.rounds.rounds:
        return run
    done = run.state.round * len(settings.server.sites)
    return resume_simulation(data, folder, device=device, progress=progress)


def _by_subject(
    run: RunFolder, settings: FederationSettings, data: Path, site: str, device: str
) -> tuple[list[str], np.ndarray]:
    """Held-out subjects of a site, sorted, and the counts (S, C, C) of its last model on them."""
    store = open_feature_store(data / site, verify=False)

    def generator() -> np.random.Generator:  # as the site divides its clips
        return np.random.default_rng(derived_seed(settings.seed, site, 0))

    clips = divide_clips(store, settings, generator(), torch.device(device))
    rows = divide_rows(store, settings, generator())
    network = build_network(settings.network, settings.seed, settings.shared_priors()).to(device)
    load_state_arrays(network, state_arrays(network) | _last_model(run, settings, site))
    rounds = settings.rounds.rounds
    rho = epochs_of_round(rounds, rounds, settings.training)[-1].prior_weight
    predicted = held_out_logits(network, clips, settings, rho).argmax(axis=1)
    subjects, number = np.unique(store.clips.subject[rows.held_out], return_inverse=True)
    counts = confusion_matrices(
        rows.label[rows.held_out],
        predicted,
        number,
        len(CLASS_NAMES[settings.network.classes]),
        len(subjects),
    )
    return [f"{store.manifest.dataset}/{subject}" for subject in subjects], counts


def _last_model(run: RunFolder, settings: FederationSettings, site: str) -> Tensors:
    if settings.strategy.name == "pooled":
        return unpacked(run.replies(settings.rounds.rounds)[site])
    return unpack_tensors((run.path / SITES_FOLDER / site / "personal.safetensors").read_bytes())
