"""Figures of notebook 10: an Inception module, what its parts cost, its gradients, nets compared."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .curves import ACCENT, GREY, INK, LINES, PALE, SECOND, bare, box_of_text, by_seed, in_style, name_rows, new_figure


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
    units = {"parameters": "million parameters", "multiply_adds": "million mult.-adds"}
    for column, (net, table) in enumerate(tables.items()):
        for row, (what, unit) in enumerate(units.items()):
            place, names = axes[row, column], [_short(name) for name in table.index]
            place.bar(range(len(table)), table[what] / 1e6, color=GREY if row else INK, width=0.75)
            place.set_xticks(range(len(table)), names if row else [], rotation=90, fontsize=9)
            axes[row, 0].set_ylabel(unit)
            for x, value in enumerate(table[what] / 1e6):
                digits = 0 if value >= 10 else 1 if value >= 1 else 2 if value >= 0.01 else 3
                place.text(x, value, f"{value:.{digits}f}", ha="center", va="bottom", fontsize=7)
        axes[0, column].set_title(net)
    return figure


def _short(name: str) -> str:
    """A module's name on an axis."""
    return "1 × 1" if name == "conv2_reduce" else name.replace("inception", "")


@in_style
def saved(table: pd.DataFrame) -> Figure:
    """Weights of the wide branches of each module, with a narrowing layer before them and without.

    table: columns "3 × 3, naive", "3 × 3, narrowed", "5 × 5, naive", "5 × 5, narrowed"; a row a module.
    """
    figure, axes = new_figure(8.2, 3.3, 1, 2, sharey=True)
    for place, window in zip(axes[0], ("3 × 3", "5 × 5"), strict=True):
        naive, narrowed = (table[f"{window}, {way}"] / 1e6 for way in ("naive", "narrowed"))
        rows = np.arange(len(table))
        place.barh(rows, naive, 0.8, color=PALE, edgecolor=GREY, label="without narrowing")
        place.barh(rows, narrowed, 0.42, color=INK, label="with it")
        for row, (many, few) in enumerate(zip(naive, narrowed, strict=True)):
            place.text(many, row, f" {many / few:.1f}×", va="center", fontsize=8)
        place.set(title=f"the {window} branch", xlabel="million weights")
        place.margins(x=0.12)
    name_rows(axes[0, 0], [_short(name) for name in table.index])
    axes[0, 1].legend(loc="upper right", fontsize=8)
    return figure


@in_style
def printed(off: pd.DataFrame) -> Figure:
    """By how many per cent each printed number of Table 1 differs from the computed one, a row a module.

    off: a column for each quantity.
    """
    figure, place = new_figure(7.6, 3.8)
    place.axvline(0, color=GREY, linewidth=1)
    for (name, values), marker, colour, shift in zip(off.items(), "os", (INK, ACCENT), (-0.25, 0.25), strict=True):
        rows = np.arange(len(off)) + shift
        place.hlines(rows, 0, values, color=colour, linewidth=1)
        place.plot(values, rows, marker, color=colour, markersize=5, label=name)
        for row, value in zip(rows, values, strict=True):
            if abs(value) > 3:
                text, side = f"  {value:+.0f} %  ".replace("-", "−"), "left" if value > 0 else "right"
                place.text(value, row, text, ha=side, va="center", fontsize=8)
    place.margins(x=0.12)
    place.set_xlabel("printed, compared with computed (%)")
    name_rows(place, [_short(name) for name in off.index])
    place.legend(loc="lower left", fontsize=8)
    return figure


@in_style
def gradients(panels: dict[str, dict[str, pd.Series]]) -> Figure:
    """How large each layer's gradient is beside its weights, the first layer on the left, on a logarithmic scale.

    panels: for each title and line, a number a layer.
    """
    figure, axes = new_figure(2.6 * len(panels) + 0.6, 3.0, 1, len(panels), sharey=True)
    for place, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for (name, sizes), (style, colour), marker in zip(lines.items(), LINES, "os^", strict=False):
            place.plot(range(len(sizes)), sizes, style, marker=marker, markersize=4, color=colour, label=name)
        place.set_xticks(range(len(sizes)), [_short(name) for name in sizes.index], rotation=90, fontsize=8)
        place.set(title=title, yscale="log")
    axes[0, 0].set_ylabel("gradient / weights")
    axes[0, -1].legend(loc="lower right", fontsize=8)
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
    axes[most, 1].legend(loc="upper right", fontsize=7)
    return figure


@in_style
def variants(tables: dict[str, pd.DataFrame], guess: float, xlabel: str, ylabel: str) -> Figure:
    """How several nets learn: thin lines the seeds, thick ones their mean.

    tables: for each net, by epoch or step, a column a seed. guess: what a guess would have.
    """
    looks = (("-", INK, ""), ("--", ACCENT, ""), (":", SECOND, ""), ("-.", GREY, ""), ("-", SECOND, "o"))
    figure, place = new_figure(8.2, 3.0)
    for (name, table), (style, colour, marker) in zip(tables.items(), looks, strict=False):
        by_seed(place, table.index, table, (style, colour), f"{name} ({table.shape[1]})")
        place.lines[-1].set(marker=marker, markersize=4)  # the mean
    place.axhline(guess, color=GREY, linestyle=":")
    last = max(table.index.max() for table in tables.values())
    place.annotate("a guess", (last, guess), (0, 2), textcoords="offset points", ha="right", va="bottom", fontsize=9)
    place.set(xlabel=xlabel, ylabel=ylabel)
    figure.legend(loc="outside right upper", fontsize=9, title="net (seeds)")
    return figure
