"""How often every action unit occurs, by data set, as bars (supplement Fig. 1)."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fedpsyau_priors.au_frequency import AuSelection, Verdict
from fedpsyau_priors.heat_map import INK

__all__ = ["plot_au_frequency"]

#: Blue, vermilion and grey are told apart with any common colour blindness.
_COLORS: dict[Verdict, str] = {
    "kept": "#0072b2",
    "rare": "#d55e00",
    "surplus": "#9aa5ad",
    "absent": "#9aa5ad",
}
_MEANINGS: tuple[tuple[Verdict, str], ...] = (
    ("kept", "kept"),
    ("rare", "dropped: rare in another data set"),
    ("surplus", "dropped: others are commoner in the reference"),
)


def plot_au_frequency(selection: AuSelection) -> Figure:
    """Draw a panel for every data set: share of clips by AU, coloured by what became of the AU."""
    verdicts = sorted(selection.verdicts, key=lambda verdict: verdict.au)
    datasets = list(verdicts[0].shares) if verdicts else []
    width = max(7.0, 0.42 * len(verdicts) + 1.5)
    figure = Figure(figsize=(width, 1.2 + 2.1 * max(len(datasets), 1)), layout="constrained")
    panels = figure.subplots(max(len(datasets), 1), 1, squeeze=False)[:, 0]
    names = [str(verdict.au) for verdict in verdicts]
    colors = [_COLORS[verdict.verdict] for verdict in verdicts]
    for axes, dataset in zip(panels, datasets, strict=False):
        shares = [100 * (verdict.shares[dataset] or 0) for verdict in verdicts]
        axes.bar(names, shares, color=colors, width=0.7)
        for place, verdict in enumerate(verdicts):
            share = verdict.shares[dataset]
            text = "?" if share is None else f"{100 * share:.1f}"
            axes.text(place, shares[place], text, ha="center", va="bottom", fontsize=7, color=INK)
        reference = dataset == selection.reference
        if not reference:
            axes.axhline(100 * selection.min_share, color=INK, linewidth=0.8, linestyle=":")
        axes.set_title(f"{dataset}{' (reference)' if reference else ''}", color=INK, fontsize=10)
        axes.set_ylabel("% of clips", fontsize=9)
        axes.set_ylim(0, max(shares, default=0) * 1.15 or 1)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("action unit; ?: its labels don't tell")
    handles = [Patch(color=_COLORS[verdict], label=text) for verdict, text in _MEANINGS]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
