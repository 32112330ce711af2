"""Checks that a site's reply must pass before it is used (design section 6)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import numpy as np

from fedpsyau_model.exchange import TrainingReport
from fedpsyau_model.precision import Form
from fedpsyau_server.fusion import Model
from fedpsyau_server.reply_sizes import largest_reply


def model_fault(reply: Model, wanted: Form) -> str | None:
    """Say why a returned model cannot be used, or None: keys, shapes, dtypes, finite values."""
    if reply.keys() != wanted.keys():
        missing, extra = sorted(wanted.keys() - reply.keys()), sorted(reply.keys() - wanted.keys())
        return f"tensors missing: {missing[:3] or 'none'}, unexpected: {extra[:3] or 'none'}"
    for name, tensor in reply.items():
        expected = wanted[name]
        if tensor.shape != expected.shape or tensor.dtype != expected.dtype:
            return (
                f"tensor {name} is {tensor.dtype} {tensor.shape}, "
                f"not {expected.dtype} {expected.shape}"
            )
        if not np.isfinite(tensor).all():
            return f"tensor {name} holds values that are not finite"
    return None


def report_fault(
    report: TrainingReport,
    site: str,
    run_id: str,
    round_number: int,
    enrolled: int,
    classes: int,
) -> str | None:
    """Say why a report cannot be used, or None: who, when, counts, confusion matrices.

    enrolled: training clips that the site named when it joined. classes: of the network.
    """
    if report.partition != site or report.round != round_number:
        return (
            f"it answers for {report.partition}, round {report.round}, "
            f"not for {site}, round {round_number}"
        )
    if report.run_id != run_id:
        return f"it answers for the run {report.run_id}, not for {run_id}"
    if report.train_clips > enrolled:
        return f"it claims {report.train_clips} training clips, and enrolled {enrolled}"
    for name in ("confusion_received", "confusion_trained"):
        cells = getattr(report, name)
        if cells is None:  # kept back by the site
            continue
        if len(cells) != classes**2 or min(cells, default=0) < 0 or sum(cells) != report.test_clips:
            return f"{name} is not a {classes} x {classes} matrix over {report.test_clips} clips"
    return None


def size_fault(received: int, sent: int) -> str | None:
    """Say why a packed model is too large to be unpacked, or None.

    received, sent: bytes of the model that came back, and of what had been sent to the site.
    """
    if received > largest_reply(sent):
        return f"its model has {received} bytes, and the one that it got has {sent}"
    return None


def update_norm(reply: Model, sent: Model) -> float:
    """Euclidean norm of the change that a site made to the model it received."""
    squares = [float(np.square(reply[name].astype(np.float64) - sent[name]).sum()) for name in sent]
    return float(np.sqrt(sum(squares)))


def norm_faults(norms: Mapping[str, float], max_ratio: float) -> dict[str, str]:
    """Sites whose update norm is beyond `max_ratio` times the median of all, with the reason.

    With fewer than three replies there is no majority to compare with, and none is refused.
    """
    if len(norms) < 3:
        return {}
    median = statistics.median(norms.values())
    return {
        site: f"its update norm {norm:.3g} is beyond {max_ratio:g} times the median, {median:.3g}"
        for site, norm in norms.items()
        if norm > max_ratio * median
    }
