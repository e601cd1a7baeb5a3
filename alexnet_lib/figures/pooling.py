"""§3.4, windows on maps, and what overlapping ones are worth: arrays in, a matplotlib figure out."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .curves import ACCENT, GREY, INK, LINES, PALE, SECOND, bare, in_style, name_rows, new_figure


@in_style
def kept(grid: np.ndarray, winners: dict[int, np.ndarray], outs: dict[int, np.ndarray]) -> Figure:
    """One map of numbers under windows of several widths at every second unit, and what comes out.

    winners: for each width, whether a unit is the largest of some window. Hatched units lie in no window.
    """
    side = len(grid)
    figure, axes = new_figure(10, 3.1, 1, 2 * len(outs), width_ratios=[side, 5] * len(outs))
    for (window, out), place, made in zip(outs.items(), axes[0, ::2], axes[0, 1::2], strict=True):
        won = winners[window]
        _numbers(place, grid, shades=0.25 * won, bold=won)
        _windows(place, side, window, len(out))
        place.set_title(f"windows of {window} keep {won.sum()} of {grid.size}")
        _numbers(made, out)
        made.text((len(out) - 1) / 2, -0.7, f"{len(out)} × {len(out)} come out", ha="center", va="bottom")
        margin = (side - len(out)) / 2
        made.set(xlim=(-1.5, len(out) + 0.5), ylim=(len(out) + margin - 0.5, -margin - 0.5))
    return figure


@in_style
def by_hand(grid: np.ndarray, window: int, out: np.ndarray, credit: np.ndarray) -> Figure:
    """A map of numbers with its windows at every second unit, what comes out, and who receives the gradient.

    The darker a unit of the first panel, the more windows hold it; a hatched one is in none.
    """
    side, across = len(grid), len(out)
    figure, axes = new_figure(10, 3.9, 1, 3, width_ratios=[side, across + 2, side])
    _numbers(axes[0, 0], grid, shades=0.09 * (_held(side, window, across) - 1).clip(0), bold=credit > 0)
    _windows(axes[0, 0], side, window, across)
    _numbers(axes[0, 1], out)
    _numbers(axes[0, 2], credit, shades=0.2 * credit, bold=credit > 0)
    titles = f"windows of {window} at every second unit", f"what comes out: {across} × {across}", "credit"
    for place, title in zip(axes[0], titles, strict=True):
        place.set_title(title)
    axes[0, 1].set(xlim=(-1.5, across + 0.5), ylim=(side / 2 + across / 2 - 0.5, across / 2 - side / 2 - 0.5))
    return figure


@in_style
def edges(side: int, panels: dict[str, tuple[int, int]]) -> Figure:
    """Windows at every second unit of a map: hatched, units that no window holds; dashed, windows that hang over.

    panels: for each title the width of a window, and how many there are on a row.
    """
    figure, axes = new_figure(10, 3.3, 1, len(panels))
    for place, (title, (window, across)) in zip(axes[0], panels.items(), strict=True):
        bare(place)
        place.imshow(0.12 * (_held(side, window, across)[:side, :side] - 1).clip(0), cmap="Greys", vmin=0, vmax=1)
        for line in range(side + 1):
            place.plot([-0.5, side - 0.5], [line - 0.5] * 2, color=PALE, linewidth=0.6)
            place.plot([line - 0.5] * 2, [-0.5, side - 0.5], color=PALE, linewidth=0.6)
        _windows(place, side, window, across)
        place.add_patch(Rectangle((-0.5, -0.5), side, side, fill=False, edgecolor=INK, linewidth=1.2))
        place.set(title=title, xlim=(-0.7, side + 0.7), ylim=(side + 0.7, -0.7))
    return figure


def _held(side: int, window: int, across: int) -> np.ndarray:
    """How many windows hold each unit of a map."""
    held = np.zeros((side, side), int)
    for row in range(0, 2 * across, 2):
        for column in range(0, 2 * across, 2):
            held[row : row + window, column : column + window] += 1
    return held


def _windows(place, side: int, window: int, across: int) -> None:
    """Outlines of windows at every second unit, dashed where they hang over, and hatches where there is none."""
    for row, column in np.argwhere(_held(side, window, across) == 0):
        place.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="///", edgecolor="#bbbbbb", lw=0))
    for number in range(across**2):
        row, column = divmod(number, across)
        inset = 0.06 + 0.08 * ((row + column) % 2)
        corner, size = (2 * column - 0.5 + inset, 2 * row - 0.5 + inset), window - 2 * inset
        over = 2 * max(row, column) + window > side
        style = {"edgecolor": ACCENT if (row + column) % 2 or over else INK, "linewidth": 2 if over else 1.2}
        place.add_patch(Rectangle(corner, size, size, fill=False, linestyle="--" if over else "-", **style))


def _numbers(place, grid: np.ndarray, shades=None, bold=None) -> None:
    """A grid of cells with a number in each."""
    bare(place)
    shades = np.zeros(grid.shape) if shades is None else shades
    place.imshow(shades, cmap="Greys", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(grid):
        strong = bold is not None and bold[row, column]
        colour = GREY if bold is not None and not strong else INK
        weight = "bold" if strong else "normal"
        place.text(column, row, f"{value:g}", ha="center", va="center", fontsize=9, color=colour, weight=weight)
        place.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=PALE, linewidth=0.8))


@in_style
def on_maps(
    picture: np.ndarray, maps: np.ndarray, outs: dict[int, np.ndarray], credits: dict[int, np.ndarray]
) -> Figure:
    """A picture, and channels of the first layer, one a row: as they are, pooled, and the credit of each unit.

    maps: (C, H, W); outs and credits: for each width of a window.
    """
    wide = 1 + 2 * len(outs)
    figure, axes = new_figure(10, 1.5 * len(maps) + 0.3, len(maps), wide + 1, width_ratios=[1.5] + [1] * wide)
    for place in axes.flat:
        bare(place)
    for place in axes[:, 0]:
        place.remove()
    whole = figure.add_subplot(axes[0, 0].get_gridspec()[:, 0])
    bare(whole)
    whole.imshow(picture)
    whole.set_title("the picture", fontsize=9)
    most = max(counts.max() for counts in credits.values())
    for row, places in enumerate(axes[:, 1:]):
        shown = [(maps[row], maps[row].max()), *((out[row], maps[row].max()) for out in outs.values())]
        shown += [(counts[row], most) for counts in credits.values()]
        for place, (values, highest) in zip(places, shown, strict=True):
            place.imshow(values, cmap="Greys", vmin=0, vmax=highest)
            place.spines[:].set(visible=True, color=GREY)
    titles = ["channel (dark: large)", *(f"out, windows of {w}" for w in outs)]
    titles += [f"credit, windows of {w}" for w in credits]
    for place, title in zip(axes[0, 1:], titles, strict=True):
        place.set_title(title, fontsize=8)
    return figure


@in_style
def shifted(changes: dict[str, float]) -> Figure:
    """By how much the output of several ways to pool changes when the map moves by one unit, in per cent."""
    figure, place = new_figure(8, 0.42 * len(changes) + 0.8)
    bars = place.barh(range(len(changes)), [100 * c for c in changes.values()], color=PALE, edgecolor=INK)
    place.bar_label(bars, fmt="%.0f %%", padding=3)
    name_rows(place, list(changes))
    place.set(xlabel="change of the output when the map moves by one unit (%)")
    place.margins(x=0.12)
    return figure


@in_style
def saved(panels: dict[str, dict[str, dict]]) -> Figure:
    """Points of error saved, a panel an error: dots are seeds, lines are 95 % intervals around the mark of the mean.

    panels: for each title and source a "mean", and perhaps an interval ("low", "high") and "seeds".
    """
    rows = list(next(iter(panels.values())))
    figure, axes = new_figure(10, 0.5 * len(rows) + 0.9, 1, len(panels), sharey=True)
    for place, (title, sources) in zip(axes[0], panels.items(), strict=True):
        place.axvline(0, color=GREY, linewidth=1, linestyle=":")
        for row, given in enumerate(sources.values()):
            if "low" in given:
                place.plot([given["low"], given["high"]], [row, row], color=INK, linewidth=1.5)
            place.plot(given.get("seeds", []), [row + 0.2] * len(given.get("seeds", [])), "o", color=SECOND, ms=3.5)
            place.plot(given["mean"], row, "D", color=ACCENT if "low" in given else "white", mec=ACCENT, ms=7)
            words = (given["mean"], row), (0, 7)
            place.annotate(f"{given['mean']:+.2f}", *words, textcoords="offset points", ha="center", fontsize=8)
        place.set(title=title, xlabel="points saved", ylim=(len(rows) - 0.5, -0.7))
    axes[0, 0].set_yticks(range(len(rows)), rows)
    return figure


@in_style
def gaps(tables: dict[str, pd.DataFrame]) -> Figure:
    """By how much the validation error exceeds the training error, as the latter falls; thin lines, single seeds.

    tables: for each name the gap in points by training error in per cent: a row a level, a column a seed.
    """
    figure, place = new_figure(7.5, 3)
    for (name, table), (style, colour) in zip(tables.items(), LINES, strict=False):
        place.plot(table.index, table.mean(axis=1), style, color=colour, linewidth=2, label=name)
        place.plot(table.index, table, style, color=colour, linewidth=0.5, alpha=0.6)
    place.set(xlabel="error on training images (%); training goes on to the right")
    place.axhline(0, color=GREY, linewidth=1)
    place.set(ylabel="validation − training error\n(points)", xlim=(table.index.max(), table.index.min()))
    place.legend(fontsize=9)
    return figure
