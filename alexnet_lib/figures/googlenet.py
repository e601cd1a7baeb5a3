"""Figures of notebook 10: an Inception module, what its parts cost, stale gradients, two nets compared."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .curves import ACCENT, GREY, INK, LINES, PALE, bare, box_of_text, in_style, new_figure


@in_style
def inception(seen: int, panels: dict[str, list[list[tuple[str, int]]]]) -> Figure:
    """Modules as boxes, their branches side by side from the maps below to those above; a thick frame, what narrows.

    panels: for each title its branches from left to right, each from below: (layer, maps).
    """
    figure, axes = new_figure(9, 3.1, 1, len(panels))
    for place, (title, branches) in zip(axes[0], panels.items(), strict=True):
        bare(place)
        width = 1.5
        middle = width * (len(branches) - 1) / 2
        total = sum(branch[-1][1] for branch in branches)
        _box(place, middle, 0, f"{seen} maps", 2.2, PALE)
        _box(place, middle, 4.2, f"side by side: {total} maps", 2.9, PALE)
        for i, branch in enumerate(branches):
            x, below = i * width, (middle + (i * width - middle) * 0.25, 0.28)
            for row, (layer, maps) in enumerate(branch):
                y = 1.4 + 1.4 * row if max(map(len, branches)) > 1 else 2.1
                narrows = len(branch) > 1 and row == 0 and layer == "1 × 1"
                _box(place, x, y, f"{layer}\n{maps}", 1.3, "white", ACCENT if narrows else INK)
                _arrow(place, below, (x, y - 0.36))
                below = (x, y + 0.36)
            _arrow(place, below, (middle + (x - middle) * 0.5, 4.2 - 0.28))
        place.set_title(title)
        place.set(xlim=(-0.8, width * (len(branches) - 1) + 0.8), ylim=(-0.4, 4.6))
    return figure


def _box(place, x: float, y: float, text: str, width: float, colour: str, edge: str = INK) -> None:
    height = 0.72 if "\n" in text else 0.56
    line = 1.8 if edge == ACCENT else 0.9
    look = {"facecolor": colour, "edgecolor": edge, "linewidth": line, "zorder": 2}
    box_of_text(place, (x, y), (width, height), text, 8, **look)


def _arrow(place, start, end) -> None:
    place.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0})


@in_style
def costs(tables: dict[str, pd.DataFrame]) -> Figure:
    """Where each net's parameters and multiply-adds are, layer by layer from the picture.

    tables: columns parameters, multiply_adds.
    """
    figure, axes = new_figure(8.8, 4.2, 2, len(tables), sharey="row", width_ratios=[len(t) for t in tables.values()])
    for column, (net, table) in enumerate(tables.items()):
        for row, (what, unit) in enumerate(
            (("parameters", "million parameters"), ("multiply_adds", "million mult.-adds"))
        ):
            place, names = axes[row, column], [name.replace("inception", "") for name in table.index]
            place.bar(range(len(table)), table[what] / 1e6, color=GREY if row else INK, width=0.75)
            place.set_xticks(range(len(table)), names if row else [], rotation=90, fontsize=9)
            axes[row, 0].set_ylabel(unit)
            for x, value in enumerate(table[what] / 1e6):
                digits = 0 if value >= 10 else 1 if value >= 1 else 2 if value >= 0.01 else 3
                place.text(x, value, f"{value:.{digits}f}", ha="center", va="bottom", fontsize=7)
        axes[0, column].set_title(net)
    return figure


@in_style
def gradients(tables: dict[str, pd.Series]) -> Figure:
    """Sizes of the gradient by layer, one line a source, the first layer on the left."""
    figure, axes = new_figure(7.2, 2.6)
    place = axes[0, 0]
    for (name, sizes), (style, colour) in zip(tables.items(), LINES, strict=False):
        place.plot(range(len(sizes)), sizes, style, marker="o", markersize=4, color=colour, label=name)
    place.set_xticks(range(len(sizes)), [n.replace("inception", "") for n in sizes.index], rotation=45)
    place.set(ylabel="gradient / weights", yscale="log")
    place.legend()
    return figure


@in_style
def stale(paths: dict[str, np.ndarray], limits: pd.Series) -> Figure:
    """Left, a weight by update, one line a staleness; right, the largest rate that still shrinks, by staleness."""
    figure, axes = new_figure(8.2, 2.6, 1, 2)
    for (name, path), style in zip(paths.items(), ("-", "--", ":"), strict=False):
        axes[0, 0].plot(path, style, label=name)
    axes[0, 0].axhline(0, color=GREY, linewidth=0.8, zorder=0)
    axes[0, 0].set(xlabel="update", ylabel="weight (0 is best)", ylim=(-1.7, 2.4))
    axes[0, 0].legend(loc="upper right", ncols=3, fontsize=8, columnspacing=1, handlelength=1.6)
    axes[0, 1].plot(limits.index, limits, "o-", markersize=4)
    axes[0, 1].set(xlabel="staleness of each gradient (updates)", ylabel="largest rate that converges", ylim=(0, None))
    return figure


@in_style
def two_nets(panels: dict[str, dict[str, list[pd.DataFrame]]]) -> Figure:
    """Top-1 error in validation of both nets by epoch, left, and by work, right; thin lines, the seeds.

    panels: for each title, a row, and each run the tables of its seeds, as `sequel.curve` gives them.
    """
    figure, axes = new_figure(7.4, 2.0 * len(panels) + 0.3, len(panels), 2, sharey="row")
    for places, (title, runs) in zip(axes, panels.items(), strict=True):
        for name, tables in runs.items():
            styles, colour = (("-", "--"), INK) if "AlexNet" in name else (("-.", ":"), ACCENT)
            style = styles["fewer" in name]
            mean = pd.concat(tables).groupby("epoch")[["work", "error"]].mean()
            for place, x in ((places[0], mean.index), (places[1], mean["work"])):
                place.plot(x, mean["error"], style, color=colour, linewidth=2, label=name)
            for table in tables if len(tables) > 1 else []:
                places[0].plot(table["epoch"], table["error"], style, color=colour, linewidth=0.6, alpha=0.6)
                places[1].plot(table["work"], table["error"], style, color=colour, linewidth=0.6, alpha=0.6)
        places[0].set(ylabel="top-1 error (%)", title=title, ylim=(0, 100), xlabel="epoch")
        places[1].set(title=title, xlabel="10¹² multiply-adds of training so far")
    most = max(range(len(panels)), key=lambda row: len(list(panels.values())[row]))
    axes[most, 1].legend(loc="lower right", fontsize=7)
    return figure
