"""How well a network does on the clips that a site holds out."""

from __future__ import annotations

import numpy as np

from fedpsyau_client.local_training.site_clips import SiteClips
from fedpsyau_model.calibration import calibrate_batch_norm
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.metrics import confusion_matrix
from fedpsyau_model.network import AuGatDsi
from fedpsyau_model.settings import FederationSettings
from fedpsyau_model.training import predict

__all__ = ["calibrate", "held_out_classes", "held_out_confusion"]


def held_out_confusion(
    network: AuGatDsi, clips: SiteClips, settings: FederationSettings, prior_weight: float
) -> np.ndarray:
    """Confusion matrix (C, C) of the network over a site's held-out clips, rows the true class."""
    predicted = held_out_classes(network, clips, settings, prior_weight)
    classes = len(CLASS_NAMES[settings.network.classes])
    return confusion_matrix(clips.held_out.emotion.cpu().numpy(), predicted, classes)


def held_out_classes(
    network: AuGatDsi, clips: SiteClips, settings: FederationSettings, prior_weight: float
) -> np.ndarray:
    """Classes (N,) that the network gives to a site's held-out clips."""
    calibrate(network, clips, settings, prior_weight)
    return predict(network, clips.held_out, prior_weight).emotion.argmax(dim=1).numpy()


def calibrate(
    network: AuGatDsi, clips: SiteClips, settings: FederationSettings, prior_weight: float
) -> None:
    """Take batch-norm statistics from the site's training clips where they are its own."""
    if settings.strategy.batch_norm == "local":
        calibrate_batch_norm(network, clips.training, prior_weight)
