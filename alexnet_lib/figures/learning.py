"""Figures of §5: a first run, momentum, weight decay, first weights, schedules, and runs that differ by rounding."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .curves import ACCENT, GREY, INK, LINES, PALE, SECOND, by_seed, in_style, level, name_rows, new_figure

MARKS = ("o", "s", "^", "D")


@in_style
def first_minutes(
    losses: Sequence[float], guess: float, errors: dict[str, tuple], end: tuple[str, float, float]
) -> Figure:
    """Left, the loss of each step and its mean; right, validation error by epoch, and where a run of 2012 ended.

    errors: (epochs, errors from 0 to 1) by name. end: name, epoch and error in per cent.
    """
    figure, ((left, right),) = new_figure(9.5, 3.2, 1, 2)
    left.plot(np.arange(1, len(losses) + 1), losses, color=GREY, linewidth=0.6, label="each step")
    mean = pd.Series(losses).rolling(20, min_periods=1).mean()
    left.plot(np.arange(1, len(losses) + 1), mean, color=INK, linewidth=2, label="mean of 20")
    level(left, guess, "a guess", len(losses))
    left.set(xlabel="step", ylabel="loss (nats)", title="the loop above")
    left.legend()
    for (name, (epochs, values)), (style, colour), mark in zip(errors.items(), LINES, MARKS, strict=False):
        few = mark if len(values) < 10 else ""
        right.plot(epochs, 100 * np.asarray(values), style, color=colour, marker=few, markersize=4, label=name)
    name, epoch, error = end
    right.plot(epoch, error, "D", mfc="white", mec=ACCENT, markersize=7, linestyle="", label=name)
    right.set(xlabel="epoch", ylabel="validation error, top-1 (%)", ylim=(0, 100), xscale="log", title="where it leads")
    right.set_xticks([1, 3, 10, 30, 90], ["1", "3", "10", "30", "90"])
    right.minorticks_off()
    right.legend(fontsize=8, loc="lower left")
    return figure


@in_style
def valley(paths: dict[str, np.ndarray], curvature: tuple[float, float]) -> Figure:
    """Paths of gradient descent in a long valley seen from above, one panel each; the ring is the lowest point.

    paths: (steps, 2) each. curvature: of the valley along both axes.
    """
    figure, axes = new_figure(9, 1.9, 1, len(paths), sharey=True)
    ends = np.concatenate(list(paths.values()))
    reach = 1.15 * np.abs(ends).max(0)
    x, y = np.meshgrid(*(np.linspace(-side, side, 121) for side in reach))
    for place, (name, path) in zip(axes[0], paths.items(), strict=True):
        place.contour(x, y, curvature[0] * x**2 + curvature[1] * y**2, 9, colors=PALE, linewidths=1)
        place.plot(*path.T, "o-", color=INK, markersize=2.5, linewidth=1)
        place.plot(0, 0, "o", mfc="none", mec=ACCENT, markersize=11, mew=2, zorder=4)
        place.set(title=name, xlabel="along the valley")
    axes[0, 0].set_ylabel("across it")
    return figure


@in_style
def decay(points: dict[str, Sequence[float]], left: dict[str, float]) -> Figure:
    """Left, points of training error saved by weight decay, a dot a seed; right, what it leaves of a weight."""
    figure, ((place, other),) = new_figure(9.5, 2.4, 1, 2)
    place.axvline(0, color=GREY, linewidth=1)
    for row, values in enumerate(points.values()):
        place.plot(values, [row] * len(values), "o", color=SECOND, markersize=5, label="" if row else "one seed")
        place.plot([np.mean(values)] * 2, [row - 0.25, row + 0.25], color=INK, linewidth=2, label="" if row else "mean")
    name_rows(place, list(points))
    place.set(xlabel="points of training error saved by decay", ylim=(len(points) - 0.4, -0.8))
    place.legend(fontsize=8, ncols=2, loc="upper right")
    percent = [100 * share for share in left.values()]
    bars = other.barh(range(len(left)), percent, color=[SECOND] * (len(left) - 1) + [ACCENT], height=0.6)
    bars[-1].set_hatch("//")
    for row, share in enumerate(percent):
        other.text(max(share, 1), row, f" {share:.2g} %", va="center", fontsize=9)
    name_rows(other, list(left))
    other.set(xlabel="part of a weight that decay leaves (%)", xlim=(0, 120), xticks=[0, 50, 100])
    return figure


@in_style
def signals(panels: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """How much a unit differs between images, after each learned layer, for several initial weights; a panel a net."""
    figure, axes = new_figure(9.5, 3, 1, len(panels), sharey=True)
    for place, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for (name, after), (style, colour), mark in zip(lines.items(), LINES, MARKS, strict=False):
            place.plot(list(after), list(after.values()), style, color=colour, marker=mark, markersize=4, label=name)
        place.set(title=title, xlabel="after layer", yscale="log")
    axes[0, 0].set_ylabel("difference between images")
    axes[0, -1].legend()
    return figure


@in_style
def first_steps(tables: dict[str, pd.DataFrame], guess: float, window: int = 15) -> Figure:
    """The loss of the first steps, running means: thin lines the seeds, thick ones their mean.

    tables: by step, one column a seed.
    """
    figure, place = new_figure(7, 2.8)
    for (name, table), look in zip(tables.items(), LINES, strict=False):
        mean = table.rolling(window).mean().dropna()
        by_seed(place, mean.index, mean, look, name)
    level(place, guess, "a guess", max(table.index.max() for table in tables.values()))
    place.set(xlabel="step", ylabel=f"loss (nats), mean of {window}")
    place.legend()
    return figure


@in_style
def starts(rows: dict[str, dict[str, Sequence[float]]], longest: int) -> Figure:
    """How many steps nets take to leave the start, a mark a run; hollow in the grey band, runs that never did.

    rows: for each kind of net and initial weights the steps of its runs, NaN for one that stalled.
    """
    figure, place = new_figure(8, 0.5 * len(rows) + 1)
    names = dict.fromkeys(name for row in rows.values() for name in row)
    looks = dict(zip(names, zip(MARKS, (INK, ACCENT, SECOND), strict=False), strict=False))
    place.axvspan(longest * 1.15, longest * 2, color=PALE, linewidth=0, zorder=0)
    for row, lines in enumerate(rows.values()):
        for shift, (name, steps) in zip((-0.22, 0, 0.22), lines.items(), strict=False):
            (mark, colour), steps = looks[name], np.asarray(steps, float)
            there = np.isfinite(steps)
            heights = row + shift + np.linspace(-0.05, 0.05, len(steps))
            label = name if row == 0 else ""
            place.plot(steps[there], heights[there], mark, color=colour, markersize=4, linestyle="", label=label)
            place.plot([1.5 * longest] * int((~there).sum()), heights[~there], mark, mfc="white", mec=colour, ms=5)
    name_rows(place, list(rows))
    place.set(xlabel="steps until the loss is 0.1 below a guess's", xscale="log", xlim=(40, 2 * longest))
    place.set_xticks([50, 100, 200, 500, 1000, 1.5 * longest], ["50", "100", "200", "500", "1,000", "stalled"])
    place.minorticks_off()
    figure.legend(loc="outside upper right", ncols=3, fontsize=9)
    return figure


@in_style
def schedules(runs: dict[str, pd.DataFrame]) -> Figure:
    """Left, learning rates by epoch; right, validation errors.

    runs: the validation rows of histories: epoch, learning_rate, top1.
    """
    figure, axes = new_figure(9.5, 3, 1, 2)
    for (name, rows), (style, colour) in zip(runs.items(), LINES, strict=False):
        edges = np.append(rows["epoch"].to_numpy() - 1, rows["epoch"].iloc[-1])
        axes[0, 0].stairs(rows["learning_rate"], edges, baseline=None, linestyle=style, color=colour, linewidth=2)
        axes[0, 1].plot(rows["epoch"], 100 * rows["top1"], style, color=colour, label=name)
    axes[0, 0].set(xlabel="epoch", ylabel="learning rate", yscale="log")
    axes[0, 1].set(xlabel="epoch", ylabel="validation error, top-1 (%)", ylim=(0, 100))
    axes[0, 1].legend()
    return figure


@in_style
def twins(distances: dict[str, np.ndarray], ends: dict[str, Sequence[float]]) -> Figure:
    """Left, the distance by step of runs that differ in rounding alone; right, final errors of whole runs.

    distances: of the weights, in parts of their length.
    """
    figure, ((left, right),) = new_figure(9.5, 3, 1, 2, width_ratios=(1.2, 1))
    for (name, apart), (style, colour) in zip(distances.items(), LINES, strict=False):
        left.plot(np.arange(1, len(apart) + 1), apart, style, color=colour, label=name)
    left.set(xlabel="step", ylabel="distance / length of the weights", yscale="log")
    left.legend(fontsize=8, loc="lower right")
    for row, ((_, errors), mark) in enumerate(zip(ends.items(), MARKS, strict=False)):
        right.plot(errors, [row] * len(errors), mark, color=(SECOND, ACCENT, INK)[row % 3], markersize=6, linestyle="")
    name_rows(right, list(ends))
    right.set(xlabel="final validation error, top-1 (%)", ylim=(len(ends) - 0.4, -0.6))
    return figure
