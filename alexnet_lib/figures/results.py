"""Figures of §6 and §7: every claim beside its measurement, chance, parts, averages; in the style of `curves.py`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from .curves import ACCENT, GREY, INK, PALE, SECOND, in_style, name_rows, new_figure

# marker, edge and face of the verdicts of the ledger
LOOKS = {
    "exact, as built, holds": ("o", INK, INK),
    "shown at small scale": ("o", SECOND, SECOND),
    "undecided": ("o", INK, "white"),
    "differs": ("s", ACCENT, ACCENT),
    "refuted": ("X", ACCENT, ACCENT),
    "only a log of 2012": ("_", INK, INK),
}
PAPER = {"=": "D", ">=": ">", "<=": "<"}  # what the paper says: a value, or a bound and its side
LEAST, MOST = 0.25, 8  # multiples of the paper's number; beyond stands at the edge
NARROW = 5  # points: the scale is even up to here, and logarithmic beyond


def _points(axes, place: tuple, verdict: str, ends=(np.nan, np.nan)) -> None:
    """One measurement with its interval, as its verdict looks."""
    x, y = place
    marker, edge, face = LOOKS[verdict]
    if not np.isnan(ends[0]):
        axes.plot(np.clip(ends, *axes.get_xlim()), [y, y], color=edge, linewidth=1.2)
    axes.plot(x, y, marker, color=edge, mfc=face, markersize=10 if marker == "_" else 4.5, clip_on=False)


def _look_of(row) -> str:
    if row.kind == "log":
        return "only a log of 2012"
    return row.verdict if row.verdict in LOOKS else "exact, as built, holds"


@in_style
def every_claim(table: pd.DataFrame) -> Figure:
    """Every claim, the paper against ours: left, values as multiples of the paper's; right, effects in points.

    table: as `ledger.claims.compared` gives it. Marks show the verdict, bars the 95 % interval. Left, the line is the
    paper, or our bound where the paper gives no number, and claims that aren't met have their names; squares below, one
    a claim that nothing can be compared with. What lies beyond the scale stands at its edge.
    """
    values, effects = table[table["kind"].isin(["value", "log"])], table[table["kind"] == "effect"]
    met = values["verdict"].isin(["exact", "as built", "holds", "shown at small scale"])
    named = ~met & (values["kind"] == "value")
    heights = np.where(named, 1.0, 0.36)
    places = np.cumsum(heights) - heights / 2
    figure, ((left, right),) = new_figure(10.5, 0.118 * max(heights.sum() + 5, 1.45 * len(effects) + 5), 1, 2)
    left.set(xscale="log", xlim=(LEAST, MOST), ylim=(heights.sum() + 4, -1), yticks=[])
    left.set(title="values: ours as a multiple of the paper's", xlabel="times the paper's number (or our bound)")
    left.axvline(1, color=GREY, linewidth=1, zorder=0)
    left.minorticks_off()
    left.set_xticks([0.25, 0.5, 1, 2, 4, 8], ["¼ or less", "½", "1", "2", "4", "8 or more"])
    for row, y, name in zip(values.itertuples(), places, named, strict=True):
        x = min(max(row.times, LEAST), MOST)
        _points(left, (x, y), _look_of(row), (row.times_low, row.times_high))
        if name:
            side, align = (-1, "right") if x > 1 else (1, "left")
            end = x if np.isnan(row.times_low) else np.clip(row.times_low if x > 1 else row.times_high, LEAST, MOST)
            look = {"ha": align, "va": "center", "fontsize": 7}
            left.annotate(row.id, (end, y), (6 * side, 0), textcoords="offset points", **look)
    none = (table["kind"] == "none").sum()
    spots = 0.02 + 0.96 * np.arange(none) / max(none, 1)
    left.plot(spots, [0.035] * none, "s", mfc="white", mec=GREY, markersize=4, transform=left.transAxes)
    left.text(0, 0.055, f"{none} more: not measured, and without a log", fontsize=8, transform=left.transAxes)

    right.set_xscale("symlog", linthresh=NARROW, linscale=2)
    ends = effects[["low", "high", "paper"]].to_numpy()
    right.set(xlim=(1.2 * min(ends.min(), -1), 1.2 * ends.max()), title="effects: points, with the 95 % interval")
    _even_ticks(right)
    right.axvline(0, color=GREY, linewidth=1, zorder=0)
    for y, row in enumerate(effects.itertuples()):
        edge = GREY if row.bound == "ours" else ACCENT
        right.plot(row.paper, y, PAPER[row.relation], mfc="white", mec=edge, markersize=6, zorder=0)
        _points(right, (row.measured, y), _look_of(row), (row.low, row.high))
    name_rows(right, list(effects["id"]), fontsize=7)
    right.set_xlabel(f"points (beyond {NARROW} logarithmic)")
    for name, (marker, edge, face) in LOOKS.items():
        right.plot([], [], marker, color=edge, mfc=face, markersize=5, label=name)
    right.plot([], [], "D", mfc="white", mec=ACCENT, markersize=6, linestyle="", label="the paper's effect")
    right.plot([], [], ">", mfc="white", mec=ACCENT, markersize=6, linestyle="", label="the paper: more than this")
    if (effects["bound"] == "ours").any():
        right.plot([], [], ">", mfc="white", mec=GREY, markersize=6, linestyle="", label="our bound: more than this")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _even_ticks(axes) -> None:
    """The ticks of a scale that is even around nothing and logarithmic beyond."""
    low, high = axes.get_xlim()
    ticks = [x for x in (-50, -20, -5, -2, 0, 2, 5, 20 if high >= 20 else 10, 50) if low <= x <= high]
    axes.set_xticks(ticks, [str(x).replace("-", "−") for x in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


@in_style
def chance(differences: np.ndarray, marks: dict[str, float]) -> Figure:
    """How far apart chance alone puts two equally good nets, and differences that the paper reports.

    differences: of imagined pairs, in points.
    """
    figure, place = new_figure(8, 2.4)
    place.hist(differences, 61, color=PALE, edgecolor=GREY, linewidth=0.4)
    top = place.get_ylim()[1]
    place.text(-1.4 * differences.std(), 0.75 * top, "equally good nets,\nby luck alone ", ha="right", fontsize=9)
    for number, (name, value) in enumerate(marks.items()):
        height = top * (0.95 - 0.27 * (number % 3))
        place.plot([value, value], [0, height], color=ACCENT, linewidth=2)
        place.text(value, height, f" {name}", va="center", fontsize=9)
    place.set(xlabel="points of top-1 error between two nets", yticks=[], xlim=(None, 1.45 * max(marks.values())))
    place.spines["left"].set_visible(False)
    return figure


@in_style
def worth(panels: dict[str, pd.DataFrame], names: Sequence[str], more_than: Sequence[str] = ()) -> Figure:
    """What parts are worth in points of error: the paper, the log of 2012, and our runs with their 95 % interval.

    panels: for each title a table by part: paper, log2012, ours, low, high (NaN where there is none). names: the parts
    in order; one that a panel lacks has no run yet. more_than: those of which the paper only says "over".
    """
    figure, axes = new_figure(10, 0.3 * len(names) + 1.1, 1, len(panels), sharey=True)
    for place, (title, table) in zip(axes[0], panels.items(), strict=True):
        place.axvline(0, color=GREY, linewidth=1)
        rows = table.reindex(names)
        for y, (name, row) in enumerate(rows.iterrows()):
            place.plot(
                row["paper"],
                y,
                PAPER[">=" if name in more_than else "="],
                mfc="none",
                mec=ACCENT,
                mew=1.5,
                markersize=9,
            )
            place.plot(row["log2012"], y, "|", color=SECOND, markersize=14, mew=2)
            place.plot([row["low"], row["high"]], [y, y], color=INK, linewidth=1.2)
            place.plot(row["ours"], y, "o", color=INK, mfc="white" if np.isnan(row["low"]) else INK, markersize=5)
            if np.isnan(row["ours"]):
                place.text(0, y, " no run yet", fontsize=8, color=GREY, va="center")
        ends = rows[["paper", "log2012", "ours", "low", "high"]].astype(float)
        low, high = np.nanmin([ends.min().min(), -1]), np.nanmax([ends.max().max(), 3])
        place.set_xlim(1.15 * low, 1.15 * high)
        if max(-low, high) > 2 * NARROW:
            place.set_xscale("symlog", linthresh=NARROW, linscale=2)
            _even_ticks(place)
        beyond = f" (beyond {NARROW} logarithmic)" if place.get_xscale() == "symlog" else ""
        place.set(title=title, xlabel=f"points of top-1 error that it is worth{beyond}")
    name_rows(axes[0, 0], list(names))
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    place.plot([], [], "o", color=INK, linestyle="-", linewidth=1.2, label="our mean, 95 %")
    if any((table["ours"].notna() & table["low"].isna()).reindex(names).any() for table in panels.values()):
        place.plot([], [], "o", color=INK, mfc="white", linestyle="", label="ours, one seed")
    place.plot([], [], "D", mfc="none", mec=ACCENT, mew=1.5, markersize=9, linestyle="", label="the paper")
    if set(more_than) & set(names):
        place.plot([], [], ">", mfc="none", mec=ACCENT, mew=1.5, markersize=9, linestyle="", label="more than this")
    if any(table["log2012"].reindex(names).notna().any() for table in panels.values()):
        place.plot([], [], "|", color=SECOND, markersize=14, mew=2, linestyle="", label="log of 2012, one run")
    figure.legend(*place.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)
    return figure


@in_style
def agreement(wrong: np.ndarray, independent: np.ndarray, averages: dict[str, dict[int, Sequence[float]]]) -> Figure:
    """Left, on how many pictures so many nets err, and if they erred independently; then errors by nets averaged.

    wrong, independent: pictures by the number of nets that err on them, from none to all. averages: for each title and
    number of nets the errors (%) of every choice of them.
    """
    figure, axes = new_figure(10, 2.7, 1, 1 + len(averages))
    first, counts = axes[0, 0], np.arange(len(wrong))
    first.bar(counts - 0.2, wrong, 0.4, color=SECOND, edgecolor=INK, linewidth=0.5, label="our nets")
    first.bar(counts + 0.2, independent, 0.4, color="white", edgecolor=INK, hatch="///", linewidth=0.5)
    first.bar(0, 0, color="white", edgecolor=INK, hatch="///", label="if they erred independently")
    first.set(title="who errs together?", xlabel="nets that err on a picture", ylabel="pictures", xticks=counts)
    first.legend(fontsize=8)
    for place, (title, errors) in zip(axes[0, 1:], averages.items(), strict=True):
        for nets, each in errors.items():
            place.plot([nets] * len(each), each, "o", color=SECOND, markersize=4, alpha=0.7)
        place.plot(list(errors), [np.mean(each) for each in errors.values()], color=INK, linewidth=2)
        place.set(title=title, xlabel="nets averaged", xticks=list(errors))
    axes[0, 1].set_ylabel("top-1 error (%)")
    return figure
