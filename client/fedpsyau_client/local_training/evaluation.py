"""How well a network does on the clips that a site holds out."""

from __future__ import annotations

import numpy as np

from fedpsyau_client.local_training.site_clips import SiteClips
from fedpsyau_model.calibration import calibrate_batch_norm
from fedpsyau_model.metrics import confusion_matrix
from fedpsyau_model.network import AuGatDsi
from fedpsyau_model.settings import FederationSettings
from fedpsyau_model.training import predict

__all__ = ["calibrate", "confusion_of", "held_out_confusion", "held_out_logits"]


def held_out_confusion(
    network: AuGatDsi, clips: SiteClips, settings: FederationSettings, prior_weight: float
) -> np.ndarray:
    """Confusion matrix (C, C) of the network over a site's held-out clips, rows the true class."""
    return confusion_of(held_out_logits(network, clips, settings, prior_weight), clips)


def held_out_logits(
    network: AuGatDsi, clips: SiteClips, settings: FederationSettings, prior_weight: float
) -> np.ndarray:
    """Logits (N, C) of the network, with its statistics set, for a site's held-out clips."""
    calibrate(network, clips, settings, prior_weight)
    logits: np.ndarray = predict(network, clips.held_out, prior_weight).emotion.numpy()
    return logits


def confusion_of(logits: np.ndarray, clips: SiteClips) -> np.ndarray:
    """Confusion matrix (C, C) of answers to a site's held-out clips, rows the true class."""
    truth = clips.held_out.emotion.cpu().numpy()
    return confusion_matrix(truth, logits.argmax(axis=1), logits.shape[1])


def calibrate(
    network: AuGatDsi, clips: SiteClips, settings: FederationSettings, prior_weight: float
) -> None:
    """Take batch-norm statistics from the site's training clips where they are its own."""
    if settings.strategy.batch_norm == "local":
        calibrate_batch_norm(network, clips.training, prior_weight)
