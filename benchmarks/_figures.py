"""The figures that have a limit, which benchmark prints them, and what the limit is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FIGURES", "Figure"]


@dataclass(frozen=True)
class Figure:
    """One figure: its name as printed, the benchmark that prints it, and its limit."""

    name: str
    benchmark: str
    sign: Literal["<=", ">=", ""]
    """Empty for a limit that is not a number, which nobody but a reader can judge."""
    bound: float | str

    @property
    def limit(self) -> str:
        """The limit as a cell of a table."""
        return f"{_SIGNS[self.sign]} {self.bound}" if self.sign else str(self.bound)

    def is_met(self, value: float) -> bool | None:
        """Whether a value keeps the limit; None if the limit is not a number."""
        if isinstance(self.bound, str):
            return None
        return value <= self.bound if self.sign == "<=" else value >= self.bound


_SIGNS = {"<=": "≤", ">=": "≥"}

FIGURES = (
    Figure("train_step_ratio", "train_step", ">=", 3.0),
    Figure("infer_ratio", "train_step", ">=", 3.5),
    Figure("train_bound_fraction", "train_step", ">=", 0.65),
    Figure("data_overhead_fraction", "data_path", "<=", 0.03),
    Figure("store_open_seconds", "data_path", "<=", 0.5),
    Figure("round_overhead_ratio", "round_overhead", "<=", 0.35),
    Figure("round_overhead_ratio_half", "round_overhead", "<=", 0.20),
    Figure("round_overhead_seconds", "round_overhead", "", "none"),
    Figure("round_over_training", "round_overhead", "<=", 0.10),
    Figure("exchange_bytes_ratio", "exchange_bytes", "<=", 0.5),
    Figure("exchange_uf1_change", "exchange_bytes", "", "no measurable loss"),
    Figure("fuse_per_site_ratio_700_to_7", "fuse_scaling", "<=", 1.3),
    Figure("fuse_bandwidth_fraction", "fuse_scaling", ">=", 0.5),
    Figure("fuse_peak_rss_mb_700", "fuse_scaling", "<=", 1000),
    Figure("help_seconds", "start_up", "<=", 0.3),
    Figure("client_join_seconds", "start_up", "<=", 8.0),
    Figure("prepare_two_worker_ratio", "prepare", ">=", 1.8),
    Figure("prepare_vs_bare_tvl1", "prepare", "", "none"),
    Figure("prepare_rss_growth_mb", "prepare", "", "flat"),
)
