"""The two paths that a server answers. Those who only ask need not load what answers."""

from __future__ import annotations

__all__ = ["HEALTH_PATH", "METRICS_PATH"]

HEALTH_PATH = "/healthz"
METRICS_PATH = "/metrics"
