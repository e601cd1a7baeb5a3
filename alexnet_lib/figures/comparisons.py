"""Figures of runs in several variants and from several seeds (§3.4, §4.1, §4.2); the style is that of `curves.py`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .curves import ACCENT, GREY, INK, LINES, PALE, SECOND, by_seed, in_style, level, name_rows, new_figure


@in_style
def seeds(panels: dict[str, dict[str, pd.DataFrame]], quantity: str = "error") -> Figure:
    """Training and validation curves of variants, a row a title: thin lines the seeds, thick ones their mean.

    panels: for each title and variant a table: seed, epoch, "training <quantity>" and "validation <quantity>".
    quantity: "error", from 0 to 1, or "loss".
    """
    figure, axes = new_figure(9.5, 2.6 * len(panels) + 0.3, len(panels), 2, sharey="row")
    scale, unit = (100, "top-1 error (%)") if quantity == "error" else (1, "loss (nats)")
    for places, (title, tables) in zip(axes, panels.items(), strict=True):
        for (name, table), look in zip(tables.items(), LINES, strict=False):
            for place, split in zip(places, ("training", "validation"), strict=True):
                by_epoch = scale * table.pivot(index="epoch", columns="seed", values=f"{split} {quantity}")
                by_seed(place, by_epoch.index, by_epoch, look, name)
        places[0].set(title=f"{title}: training images as they are", ylabel=unit, ylim=(0, None))
        places[1].set(title=f"{title}: validation images")
    for place in axes[-1]:
        place.set_xlabel("epoch")
    axes[0, 1].legend()
    return figure


@in_style
def differences(
    groups: dict[str, Sequence[float]], xlabel: str, paper: dict[str, float], dot="one run", equal: float | None = 0
) -> Figure:
    """Dots by group, a bar at the mean of several; a line where nothing differs and the paper's diamonds, if any.

    equal: the value of two that do not differ: 0 of a difference, 1 of a ratio, None of what is no comparison.
    """
    figure, place = new_figure(8, 0.42 * len(groups) + 0.9)
    if equal is not None:
        place.axvline(equal, color=GREY, linewidth=1)
    for row, (name, values) in enumerate(groups.items()):
        if len(values) > 1:
            place.plot(2 * [np.mean(values)], [row - 0.28, row + 0.28], color=INK, linewidth=2, label="mean")
        place.plot(values, [row] * len(values), "o", color=SECOND, markersize=5, label="" if row else dot)
        if name in paper:
            label = "the paper" if name == next(iter(paper)) else ""
            place.plot(paper[name], row, "D", mfc="none", mec=ACCENT, mew=1.5, markersize=10, linestyle="", label=label)
    name_rows(place, list(groups))
    place.set(xlabel=xlabel)
    known = dict(zip(*reversed(place.get_legend_handles_labels()), strict=True))
    figure.legend(known.values(), known, loc="outside right upper", fontsize=9)
    return figure


@in_style
def sub_network_answers(panels: dict[str, tuple[np.ndarray, dict[str, float]]], bins: int = 40) -> Figure:
    """How the sub-networks of a net answer: for each title their probabilities of one class, and marked values."""
    figure, axes = new_figure(8, 2.5, 1, len(panels), sharey=True)
    tallest = 0
    for place, (title, (probabilities, marks)) in zip(axes[0], panels.items(), strict=True):
        edges = np.linspace(0, 1, bins + 1)
        counts, *_ = place.hist(probabilities, edges, color=PALE, edgecolor=GREY, linewidth=0.5)
        for (name, value), (style, colour) in zip(marks.items(), LINES, strict=False):
            place.axvline(value, linestyle=style, color=colour, linewidth=2, label=f"{name}: {value:.4f}")
        place.set(title=title, xlabel="probability of the class chosen")
        place.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.12))
        tallest = max(tallest, counts.max())
    axes[0, 0].set(ylabel=f"sub-networks, of {len(probabilities):,}", ylim=(0, 1.05 * tallest))
    return figure


@in_style
def silencing(panels: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    """The error by the share of hidden units silenced; thin lines the seeds, thick ones their mean.

    panels: for each title and net a table by share, one column a seed.
    """
    figure, axes = new_figure(7.5, 2.4, 1, len(panels), sharey=True)
    for place, (title, tables) in zip(axes[0], panels.items(), strict=True):
        for (name, table), look in zip(tables.items(), LINES, strict=False):
            by_seed(place, 100 * table.index, 100 * table, look, name)
        place.set(title=title, xlabel="units silenced in test (%)", ylim=(0, 100))
    axes[0, 0].set_ylabel("validation error, top-1 (%)")
    axes[0, 0].legend()
    return figure


@in_style
def slowdown(panels: dict[str, dict[str, pd.DataFrame]], paper: float) -> Figure:
    """How many times as many epochs dropout takes to a level of error; thin lines the seeds, thick ones their mean.

    panels: for each title and net a table by level, one column a seed.
    """
    figure, axes = new_figure(7.5, 2.4, 1, len(panels), sharey=True)
    for place, (title, tables) in zip(axes[0], panels.items(), strict=True):
        for (name, table), look in zip(tables.items(), LINES, strict=False):
            by_seed(place, 100 * table.index, table, look, name)
        level(place, paper, "the paper", 100 * table.index.min())
        place.set(title=title, xlabel="level of top-1 error (%)")
        place.invert_xaxis()
    axes[0, 0].set(ylabel="epochs, with / without", ylim=(0, None))
    axes[0, 0].legend(loc="lower left")
    return figure


@in_style
def price(averaged: dict[int, Sequence[float]], dropped: dict[int, Sequence[float]]) -> Figure:
    """Error by price: averages of separate nets, and single nets with dropout, a dot each and a line at their mean.

    Both by price, in trainings of one net without dropout: the errors in per cent.
    """
    figure, place = new_figure(6.5, 3)
    looks = {"average of separate nets": ("o", INK), "one net with dropout": ("D", ACCENT)}
    for (name, (marker, colour)), errors in zip(looks.items(), (averaged, dropped), strict=True):
        for number, (cost, values) in enumerate(errors.items()):
            label = "" if number else name
            place.plot([cost] * len(values), values, marker, color=colour, mfc="white", markersize=5, label=label)
            place.plot([cost - 0.15, cost + 0.15], [np.mean(values)] * 2, color=colour, linewidth=2)
    place.plot(list(averaged), [np.mean(values) for values in averaged.values()], color=INK, linewidth=0.8, zorder=0)
    place.set(xlabel="price, in trainings of one net", ylabel="validation error, top-1 (%)", xticks=list(averaged))
    place.legend()
    return figure


@in_style
def by_training_error(panels: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    """Quantities of nets as they learn, by their error on training images; thin lines the seeds, thick ones their mean.

    panels: for each quantity and net a table by training error (0 to 1), one column a seed.
    """
    figure, axes = new_figure(7.5, 2.3, 1, len(panels))
    for place, (quantity, tables) in zip(axes[0], panels.items(), strict=True):
        for (name, table), look in zip(tables.items(), LINES, strict=False):
            by_seed(place, 100 * table.index, table, look, name)
        place.set(xlabel="training error, top-1 (%)", title=quantity, ylim=(0, None))
        place.invert_xaxis()
    axes[0, 0].legend()
    return figure


@in_style
def halving(panels: dict[str, pd.DataFrame]) -> Figure:
    """How far the halved net is from the averages of its sub-networks, by the strength of its weights.

    panels: for each title a table by strength, a column of distances (0 to 1) for each average.
    """
    figure, axes = new_figure(7, 2.1, 1, len(panels), sharey=True)
    for place, (title, table) in zip(axes[0], panels.items(), strict=True):
        for name, (style, colour) in zip(table, LINES, strict=False):
            place.plot(table.index, table[name], style, color=colour, marker="o", markersize=3, label=name)
        place.set(title=title, xlabel="weights multiplied by")
    axes[0, 0].set(ylabel="distance (probability)", ylim=(-0.02, 0.52))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return figure
