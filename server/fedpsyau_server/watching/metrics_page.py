"""A run's progress as Prometheus metrics. docs/operating.md lists them; a test keeps it equal.

Labels are partition names, phases and kinds of faults: nothing that grows with the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fedpsyau_model import __version__
from fedpsyau_server.watching.health import Health
from fedpsyau_server.watching.run_progress import RoundTimes, RunProgress

__all__ = ["BUCKETS", "Scores", "metric_families", "metrics_page"]

#: Upper bounds of the histogram of rounds, in seconds.
BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200)

#: Site -> ``received`` or ``trained`` -> UF1 of its last reply; sites that test nothing have none.
Scores = Mapping[str, Mapping[str, float]]


class _Families(Collector):
    """Hands ready families to a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def metrics_page(progress: RunProgress, health: Health, scores: Scores) -> bytes:
    """Render the metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(metric_families(progress, health, scores)))
    return generate_latest(registry)


def metric_families(progress: RunProgress, health: Health, scores: Scores) -> Iterator[Metric]:
    """Every metric with its help text and samples."""
    yield _gauge("build_info", "Version that runs; always 1.", ["version"], {(__version__,): 1})
    yield _gauge("well", "1 if /healthz answers 200.", value=health.well)
    yield _gauge("round", "The last whole round.", value=progress.round)
    yield _gauge("round_running", "Round that is run; 0 between rounds.", value=progress.running)
    yield _gauge("rounds_planned", "Rounds that the run is to have.", value=progress.rounds)
    yield _gauge(
        "waiting", "1 while the run waits for its quorum.", value=progress.waiting_since is not None
    )
    yield _gauge(
        "last_round_timestamp_seconds",
        "When the last whole round was written, seconds since 1970; 0 before the first.",
        value=progress.whole_at,
    )
    yield from _sites(progress)
    yield from _times(progress.times)
    yield _counter("server_starts", "Starts and resumptions of the run.", value=progress.starts)
    yield _counter("refused_clients", "Clients that were not let in.", value=progress.refused)
    yield _counter(
        "quarantined_replies",
        "Replies that were not used.",
        ["site", "reason"],
        dict(progress.quarantined),
    )
    yield _gauge(
        "uf1",
        "UF1 on a site's held-out subjects, of the model it received and of the one it trained.",
        ["site", "model"],
        {(site, model): uf1 for site, each in scores.items() for model, uf1 in each.items()},
    )


def _sites(progress: RunProgress) -> Iterator[Metric]:
    yield _gauge("sites_known", "Sites that may take part.", value=len(progress.known))
    yield _gauge("sites_seen", "Sites that have joined at least once.", value=len(progress.seen))
    yield _gauge("sites_connected", "Sites that are connected.", value=len(progress.here))
    yield _gauge("sites_late", "Sites that were late in this round.", value=len(progress.late))
    for name, text, sites in (
        ("site_connected", "1 while a site is connected.", progress.here),
        ("site_late", "1 if a site was late in this round, or in the last.", progress.late),
    ):
        yield _gauge(name, text, ["site"], {(site,): site in sites for site in progress.known})
    for name, text, values in (
        ("site_answered_round", "Round of a site's last valid reply.", progress.answered),
        (
            "site_seen_timestamp_seconds",
            "When a site last joined or replied, seconds since 1970.",
            progress.seen,
        ),
    ):
        yield _gauge(name, text, ["site"], {(site,): value for site, value in values.items()})
    for name, text, counts in (
        ("sent_bytes", "Bytes of the models that a site was sent.", progress.sent_bytes),
        ("received_bytes", "Bytes of the models that a site sent.", progress.received_bytes),
        ("lost_replies", "Replies that were lost with a site's connection.", progress.lost),
    ):
        yield _counter(name, text, ["site"], {(site,): count for site, count in counts.items()})


def _times(times: Sequence[RoundTimes]) -> Iterator[Metric]:
    seconds = [each.seconds for each in times]
    histogram = HistogramMetricFamily("fedpsyau_round_seconds", "Seconds that whole rounds took.")
    buckets = [(str(float(top)), sum(each <= top for each in seconds)) for top in BUCKETS]
    histogram.add_metric([], [*buckets, ("+Inf", len(seconds))], sum_value=sum(seconds))
    yield histogram
    last = times[-1].phases if times else {}
    yield _gauge(
        "last_round_phase_seconds",
        "Seconds of the last whole round's phases: exchange, fuse, write.",
        ["phase"],
        {(phase,): value for phase, value in last.items()},
    )


def _gauge(
    name: str,
    text: str,
    labels: Sequence[str] = (),
    samples: Mapping[tuple[str, ...], float] | None = None,
    value: float | None = None,
) -> Metric:
    family = GaugeMetricFamily(f"fedpsyau_{name}", text, labels=list(labels))
    return _filled(family, samples, value)


def _counter(
    name: str,
    text: str,
    labels: Sequence[str] = (),
    samples: Mapping[tuple[str, ...], float] | None = None,
    value: float | None = None,
) -> Metric:
    family = CounterMetricFamily(f"fedpsyau_{name}", text, labels=list(labels))
    return _filled(family, samples, value)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily,
    samples: Mapping[tuple[str, ...], float] | None,
    value: float | None,
) -> Metric:
    """Fill in the samples, or where there are no labels the one value; None counts as 0."""
    if samples is None:
        samples = {(): value or 0}
    for labels, each in sorted(samples.items()):
        family.add_metric(list(labels), float(each))
    return family
