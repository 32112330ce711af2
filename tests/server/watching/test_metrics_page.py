"""The metrics page against Prometheus' own parser, and docs/operating.md against the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedpsyau_model import __version__
from fedpsyau_server.watching.health import Health
from fedpsyau_server.watching.metrics_page import metric_families, metrics_page
from fedpsyau_server.watching.run_progress import RoundTimes, RunProgress

PAGE = Path(__file__).parents[3] / "docs" / "operating.md"
WELL = Health("running", {})

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def progress() -> RunProgress:
    made = RunProgress(("a", "b"), rounds=9, round=3, running=4, whole_at=100.5, starts=2)
    made.here, made.late = {"a"}, {"b"}
    made.seen, made.answered = {"a": 90.0}, {"a": 3}
    made.sent_bytes.update(a=1000)
    made.received_bytes.update(a=900)
    made.quarantined.update({("b", "norm"): 2})
    made.lost.update(b=4)
    made.times = [
        RoundTimes(0.5, {}),
        RoundTimes(10.0, {}),
        RoundTimes(9000.0, {"exchange": 8999.0, "fuse": 0.75, "write": 0.25}),
    ]
    return made


def samples(page: bytes) -> Samples:
    return {
        (sample.name.removeprefix("fedpsyau_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_every_figure_stands_on_the_page(progress: RunProgress) -> None:
    page = samples(metrics_page(progress, WELL, {"a": {"received": 0.25, "trained": 0.5}}))
    plain = {name: value for (name, labels), value in page.items() if not labels}
    assert plain == {
        "well": 1,
        "round": 3,
        "round_running": 4,
        "rounds_planned": 9,
        "waiting": 0,
        "last_round_timestamp_seconds": 100.5,
        "sites_known": 2,
        "sites_seen": 1,
        "sites_connected": 1,
        "sites_late": 1,
        "round_seconds_count": 3,
        "round_seconds_sum": 9010.5,
        "server_starts_total": 2,
        "refused_clients_total": 0,
    }
    assert page["build_info", (("version", __version__),)] == 1
    for name, label, value in (
        ("site_connected", "a", 1),
        ("site_connected", "b", 0),
        ("site_late", "a", 0),
        ("site_late", "b", 1),
        ("site_answered_round", "a", 3),
        ("site_seen_timestamp_seconds", "a", 90),
        ("sent_bytes_total", "a", 1000),
        ("received_bytes_total", "a", 900),
        ("lost_replies_total", "b", 4),
    ):
        assert page[name, (("site", label),)] == value
    assert page["quarantined_replies_total", (("reason", "norm"), ("site", "b"))] == 2
    assert page["uf1", (("model", "received"), ("site", "a"))] == 0.25
    assert page["uf1", (("model", "trained"), ("site", "a"))] == 0.5
    assert page["last_round_phase_seconds", (("phase", "fuse"),)] == 0.75


def test_the_histogram_counts_each_round_in_every_bucket_from_its_own_on(
    progress: RunProgress,
) -> None:
    page = samples(metrics_page(progress, WELL, {}))
    buckets = {
        dict(labels)["le"]: value for (name, labels), value in page.items() if "bucket" in name
    }
    assert [buckets[top] for top in ("1.0", "5.0", "10.0", "20.0", "7200.0", "+Inf")] == [
        *(1, 1, 2, 2, 2, 3)
    ]


def test_before_anything_has_happened_there_are_only_zeros() -> None:
    page = samples(metrics_page(RunProgress(("a",), 5), Health("starting", {}), {}))
    assert {name for (name, _), value in page.items() if value} == {
        *("build_info", "rounds_planned", "sites_known")
    }


def test_no_metric_of_another_library_is_on_the_page(progress: RunProgress) -> None:
    page = metrics_page(progress, WELL, {}).decode()
    assert {line.split()[2].split("_")[0] for line in page.splitlines() if line[0] == "#"} == {
        "fedpsyau"
    }


def test_the_page_of_docs_lists_every_metric_with_its_labels(progress: RunProgress) -> None:
    documented = set(re.findall(r"^\| `(fedpsyau_\w+)(?:\{(.*)\})?` \|", PAGE.read_text(), re.M))
    there = {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            ", ".join(dict.fromkeys(key for sample in family.samples for key in sample.labels)),
        )
        for family in metric_families(progress, WELL, {"a": {"trained": 0.5}})
        if family.type != "histogram"
    }
    assert documented == there | {("fedpsyau_round_seconds", "")}
