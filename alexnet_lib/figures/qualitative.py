"""Figures of §6.1: kernels, answers, neighbours, codes; the style is that of `curves.py`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from .curves import ACCENT, GREY, INK, PALE, SECOND, bare, frame, in_style, label_ticks, new_figure

PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # behind words on a picture


@in_style
def answers(
    images: Sequence[np.ndarray], probabilities: np.ndarray, labels: Sequence[int], classes: Sequence[str]
) -> Figure:
    """Figure 4, left: each image over its most probable classes; the bar of the true one is dark and hatched.

    images: (H, W, 3). probabilities: (N, classes) of the images.
    """
    across = min(4, len(images))
    rows = -(-len(images) // across)
    figure, axes = new_figure(10, 2.75 * rows, 2 * rows, across, height_ratios=[1.6, 1] * rows)
    for place in axes.flat:
        bare(place)
    for i, (image, p, label) in enumerate(zip(images, probabilities, labels, strict=True)):
        row, column = divmod(i, across)
        top, bars = axes[2 * row, column], axes[2 * row + 1, column]
        top.imshow(image)
        top.set_title(classes[label], fontsize=9, loc="center")
        best = np.argsort(-p, kind="stable")[:5]
        for height, name in enumerate(best):
            right = name == label
            colour, hatch = (ACCENT, "////") if right else (PALE, "")
            bars.barh(height, p[name], 0.8, color=colour, edgecolor=INK if right else GREY, linewidth=0.5, hatch=hatch)
            weight = "bold" if right else "normal"
            bars.text(0.02, height, classes[name], va="center", fontsize=8, weight=weight, bbox=PAPER | {"alpha": 0.75})
        bars.set(xlim=(0, 1), ylim=(4.6, -0.6))
    return figure


@in_style
def neighbours(queries: Sequence[np.ndarray], rows: dict[str, Sequence[Sequence[np.ndarray]]], right: dict) -> Figure:
    """Figure 4, right: in the first column queries, beside them what lies nearest, one block a way to compare.

    rows: for each method and query its neighbours, images (H, W, 3).
    right: for each method a boolean (queries, neighbours): whether the classes agree, shown by a frame and a tick.
    """
    count, gap, width = len(next(iter(rows.values()))[0]), 0.25, 10.5
    ratios = [1, *[gap, *[1] * count] * len(rows)]
    side = width / sum(ratios)
    figure, axes = new_figure(width, side * len(queries) + 0.35, len(queries), len(ratios), width_ratios=ratios)
    for place in axes.flat:
        bare(place)
    for i, query in enumerate(queries):
        axes[i, 0].imshow(query)
        for block, (title, found) in enumerate(rows.items()):
            first = 2 + block * (count + 1)
            for j, image in enumerate(found[i]):
                place = axes[i, first + j]
                place.imshow(image)
                if right[title][i, j]:
                    place.spines[:].set(visible=True, color=ACCENT, linewidth=2)
                    look = {"transform": place.transAxes, "bbox": PAPER | {"pad": 0.8}}
                    place.text(0.06, 0.94, "✓", va="top", fontsize=8, weight="bold", **look)
            if i == 0:
                heading = axes[0, first].text(0, 1.06, title, fontsize=9, transform=axes[0, first].transAxes)
                heading.set_in_layout(False)  # wider than its column
    axes[0, 0].text(0, 1.06, "asked", fontsize=9, transform=axes[0, 0].transAxes)
    return figure


@in_style
def occlusion(
    images: Sequence[np.ndarray], maps: Sequence[np.ndarray], titles: Sequence[str], patch: int, step: int = 1
) -> Figure:
    """Pictures, each beside a map of how probable its answer stays when a grey patch covers a place.

    images: (side, side, 3). maps: (rows, columns) of probabilities, by the patch's place. patch: its side in pixels.
    step: from one place to the next, in pixels.
    """
    figure, axes = new_figure(5.5 * len(images), 2.6, 1, 2 * len(images))
    for image, probability, title, (left, right) in zip(images, maps, titles, axes.reshape(-1, 2), strict=True):
        left.imshow(image)
        left.set_title(title, fontsize=9, loc="center")
        first = patch / 2 - 0.5 - step / 2  # the edge of the cell around the first patch's middle
        rows, columns = probability.shape
        extent = (first, first + columns * step, first + rows * step, first)
        shades = right.imshow(probability, cmap="gray", extent=extent, vmin=0, vmax=1)
        right.set(xlim=left.get_xlim(), ylim=left.get_ylim())
        right.set_title("the answer's probability\nwith the patch there", fontsize=9, loc="center")
        for place in (left, right):
            bare(place)
        frame(left, (-0.5, -0.5), patch, 2.5, 1)
    figure.colorbar(shades, ax=axes[0, -1], label="probability")
    return figure


@in_style
def strongest_frequencies(panels: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """The strongest frequency of each kernel, a dot each: the further out the finer, at right angles to the stripes.

    panels: for each title the frequencies across and down, in cycles a pixel.
    """
    figure, axes = new_figure(2.1 * len(panels), 2.9, 1, len(panels), sharex=True, sharey=True)
    for place, (title, (across, down)) in zip(axes[0], panels.items(), strict=True):
        for radius in (0.1, 0.2, 0.3, 0.4):
            place.add_patch(Circle((0, 0), radius, fill=False, edgecolor=PALE, linewidth=1, zorder=0))
        turned = np.where(across < 0, -1, 1)  # a frequency and its mirror image are one
        place.plot(turned * across, turned * down, "o", color=INK, markersize=4, alpha=0.6)
        place.set(title=title, xlabel="cycles a pixel, across", xlim=(-0.02, 0.52), ylim=(-0.52, 0.52), aspect="equal")
    axes[0, 0].set_ylabel("cycles a pixel, down")
    return figure


@in_style
def colours_by_column(panels: dict[str, pd.DataFrame]) -> Figure:
    """How much of each kernel is colour, a dot a kernel, by run and column; bars: the means of the columns.

    The dotted line is what random weights have. panels: for each title a table: seed, column (1 or 2), colourfulness.
    """
    widths = [max(table["seed"].nunique() + 1, 3) for table in panels.values()]
    figure, axes = new_figure(10, 2.6, 1, len(panels), sharey=True, width_ratios=widths)
    styles = {1: ("o", INK, -0.17, "first column"), 2: ("D", ACCENT, 0.17, "second column")}
    for place, (title, table) in zip(axes[0], panels.items(), strict=True):
        seeds = sorted(table["seed"].unique())
        for (seed, column), part in table.groupby(["seed", "column"]):
            marker, colour, shift, label = styles[column]
            x = seeds.index(seed) + shift
            spread = np.linspace(-0.12, 0.12, len(part))
            label = label if seed == seeds[0] else ""
            place.plot(x + spread, part["colourfulness"], marker, color=colour, markersize=3, alpha=0.7, label=label)
            place.plot([x - 0.14, x + 0.14], [part["colourfulness"].mean()] * 2, color=colour, linewidth=2)
        place.axhline(2 / 3, color=GREY, linestyle=":", linewidth=1.2, zorder=0, label="random weights")
        place.set_xticks(range(len(seeds)), seeds)
        place.set(title=title, xlabel="run (seed)", xlim=(-0.6, len(seeds) - 0.4), ylim=(0, 1))
    axes[0, 0].set_ylabel("share of colour in a kernel")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


@in_style
def precision_by_bits(panels: dict[str, tuple[dict[str, pd.Series], dict[str, float]]]) -> Figure:
    """Precision of retrieval by the length of a code; for each title lines by name, and levels without codes."""
    figure, axes = new_figure(10, 3.0, 1, len(panels))
    for place, (title, (lines, levels)) in zip(axes[0], panels.items(), strict=True):
        filled, hollow = (ACCENT, ACCENT), (SECOND, "white")
        looks = [(line, marker, *fill) for fill in (filled, hollow) for line, marker in (("-", "o"), ("--", "s"))]
        for (name, values), (line, marker, colour, inside) in zip(lines.items(), looks, strict=False):
            look = {"marker": marker, "markersize": 5, "markerfacecolor": inside, "color": colour}
            place.plot(values.index, values, line, label=name, **look)
        for (name, level), line in zip(levels.items(), ("-", "--", ":"), strict=False):
            place.axhline(level, color=GREY, linestyle=line, linewidth=1.2, label=name)
        place.set_xscale("log", base=2)
        label_ticks(place, {bits for values in lines.values() for bits in values.index})
        place.set(title=title, xlabel="bits of a code", ylim=(0, None))
    axes[0, 0].set_ylabel("same class among the six nearest (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure
