"""Figures of §2 and of the colours in §4.1: pictures on their way into a store, what they have in common, errors."""

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .curves import ACCENT, GREY, INK, PALE, bare, frame, in_style, name_rows, new_figure
from .curves import pictures as pictures  # for notebooks that import from here
from .qualitative import answers as answers


@in_style
def preparation_steps(steps: Sequence[tuple[str, np.ndarray]], square: int) -> Figure:
    """The pictures on the way into a store, at one scale, with the square that is kept drawn on the scaled one."""
    widths, tallest = [image.shape[1] for _, image in steps], max(image.shape[0] for _, image in steps)
    figure, axes = new_figure(9, 0.4 + 8 * tallest / sum(widths), 1, len(steps), width_ratios=widths)
    for i, (place, (title, image)) in enumerate(zip(axes[0], steps, strict=True)):
        height, width = image.shape[:2]
        bare(place)
        place.imshow(image)
        place.set(ylim=(tallest - 0.5, -0.5), anchor="NW")
        place.set_title(f"{title}\n{width} × {height}", fontsize=9)
        if i == 1:
            corner = ((width - square) // 2 - 0.5, (height - square) // 2 - 0.5)
            frame(place, corner, square)
    return figure


@in_style
def collections(table: pd.DataFrame) -> Figure:
    """How many labelled images collections have, the largest on top, on a logarithmic axis.

    table: a row each; columns name, categories, images, kind ("paper" for what the paper trains on, "here", "other").
    """
    table = table.sort_values("images", ascending=False)
    figure, place = new_figure(8, 0.3 * len(table) + 0.6)
    looks = {"paper": ("D", ACCENT, "the paper's"), "other": ("o", GREY, "others it names"), "here": ("s", INK, "here")}
    for height, row in enumerate(table.itertuples()):
        marker, colour, label = looks[row.kind]
        place.plot([1, row.images], [height, height], color=PALE, linewidth=1, zorder=0)
        place.plot(row.images, height, marker, color=colour, markersize=8, linestyle="", label=label)
        place.annotate(f"{row.images:,}", (row.images, height), (8, 0), textcoords="offset points", va="center")
    name_rows(place, [f"{row.name}, {row.categories:,} categories" for row in table.itertuples()])
    place.set(xscale="log", xlabel="labelled images", xlim=(table["images"].min() / 3, table["images"].max() * 10))
    known = dict(zip(*reversed(place.get_legend_handles_labels()), strict=True))
    place.legend(known.values(), known, loc="lower right", fontsize=9)
    return figure


@in_style
def mean_image(mean: np.ndarray, image: np.ndarray) -> Figure:
    """How bright each place of the mean image is, a picture, and the picture less the mean image.

    mean, image: (S, S, 3).
    """
    figure, axes = new_figure(9, 2.7, 1, 3)
    for place in axes[0]:
        bare(place)
    shown = axes[0, 0].imshow(mean.mean(2), cmap="gray")
    figure.colorbar(shown, ax=axes[0, 0], shrink=0.8, label="grey levels")
    axes[0, 0].set_title("the mean image: how bright")
    axes[0, 1].imshow(image)
    axes[0, 1].set_title("a picture …")
    axes[0, 2].imshow(((image - mean) / 2 + 128).clip(0, 255).astype(np.uint8))
    axes[0, 2].set_title("… less the mean\n(mid-grey is 0; contrast halved)")
    return figure


def directions(pca) -> list[str]:
    """How much red, green and blue each axis of colour has, such as "R +0.6, G +0.6, B +0.5"."""
    rounded = pca.eigenvectors.T.round(1) + 0.0  # nothing is "-0.0"
    parts = [", ".join(f"{c} {part:+.1f}" for c, part in zip("RGB", axis, strict=True)) for axis in rounded]
    return [part.replace("-", "−") for part in parts]


def axis_names(pca, imagenet) -> list[str]:
    """What each axis of colour is called: its direction, if it isn't close to ImageNet's axis of the same rank."""
    cosines = np.abs((pca.eigenvectors * imagenet.eigenvectors).sum(0))
    known = ("light", "warm to cold", "magenta to green")
    names = [name if cosine >= 0.9 else way for name, cosine, way in zip(known, cosines, directions(pca), strict=True)]
    return [name if value >= 0.5 else "none: λ ≈ 0" for name, value in zip(names, pca.eigenvalues, strict=True)]


@in_style
def colour_axes(pca, mean: np.ndarray, pixels: np.ndarray) -> Figure:
    """Left, pixels in the plane of the first two axes of colour; right, the mean colour moved along each axis.

    pixels: (N, 3). Thin lines are the edges of the cube from (0, 0, 0) to (255, 255, 255), which holds every colour.
    """
    figure, axes = new_figure(10, 3.6, 1, 2, width_ratios=[1, 1.5])
    for pair in combinations(product((0, 255), repeat=3), 2):
        ends = np.array(pair)
        if np.count_nonzero(ends[0] != ends[1]) == 1:
            axes[0, 0].plot(*((ends - mean) @ pca.eigenvectors[:, :2]).T, color=GREY, linewidth=0.7, zorder=0)
    along = (pixels - mean) @ pca.eigenvectors
    axes[0, 0].scatter(along[:, 0], along[:, 1], s=5, c=pixels / 255, linewidths=0)
    axes[0, 0].set(xlabel="along the first axis (grey levels)", ylabel="along the second (grey levels)", aspect="equal")
    deviations = np.sqrt(pca.eigenvalues)
    steps = np.linspace(-2, 2, 41)
    strips = mean + steps[:, None, None] * (deviations * pca.eigenvectors).T
    axes[0, 1].imshow(strips.transpose(1, 0, 2).clip(0, 255) / 255, aspect="auto", extent=(-2.05, 2.05, 2.5, -0.5))
    for line in (0.5, 1.5):
        axes[0, 1].axhline(line, color="white", linewidth=6)
    labels = [f"√λ = {d:.1f}\n{part}" for d, part in zip(deviations, directions(pca), strict=True)]
    axes[0, 1].set_yticks(range(3), labels)
    axes[0, 1].set(xlabel="standard deviations from the mean colour", title="what each principal axis looks like")
    axes[0, 1].tick_params(left=False)
    axes[0, 1].spines[:].set_visible(False)
    return figure


@in_style
def error_bars(table: pd.DataFrame) -> Figure:
    """Top-1 and top-5 errors by method, two bars each.

    table: a row a method; columns "top-1 error" and "top-5 error", from 0 to 1.
    """
    figure, place = new_figure(8, 0.55 * len(table) + 0.7)
    rows = np.arange(len(table))
    for shift, column, colour in ((-0.19, "top-1 error", INK), (0.19, "top-5 error", PALE)):
        bars = place.barh(rows + shift, 100 * table[column], 0.36, color=colour, edgecolor=INK, label=column)
        place.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    name_rows(place, table.index)
    place.set(xlabel="validation error (%)", xlim=(0, 105))
    place.legend(loc="lower right")
    return figure
