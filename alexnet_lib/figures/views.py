"""Figures of views and colours (§4.1); the style is that of `curves.py`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from .curves import ACCENT, GREY, INK, PALE, SECOND, bare, frame, in_style, label_ticks, name_rows, new_figure


@in_style
def crop_places(image: np.ndarray, crops: np.ndarray, top, left, mirrored) -> Figure:
    """Left, a picture with the borders of its crops; right, the crops; a dot shows where the picture's centre went.

    crops: (N, side, side, 3); top, left, mirrored: (N,), as in `augmentation.Views`.
    """
    columns = -(-len(crops) // 2)
    figure = plt.figure(figsize=(2.8 + 1.4 * columns, 3.0), layout="constrained")
    plt.close(figure)
    one, all_of_them = figure.subfigures(1, 2, width_ratios=[2.8, 1.4 * columns])
    place, side, centre = one.subplots(), crops.shape[1], (len(image) - 1) / 2
    bare(place)
    place.imshow(image)
    _dot(place, centre, centre)
    for down, across in zip(top, left, strict=True):
        frame(place, (across - 0.5, down - 0.5), side, 2.5, 1)
    for i, place in enumerate(all_of_them.subplots(2, columns, squeeze=False).flat):
        bare(place)
        if i < len(crops):
            place.imshow(crops[i])
            for line in (place.axhline, place.axvline):
                line((side - 1) / 2, color="white", linewidth=0.7)
            across = centre - left[i]
            _dot(place, side - 1 - across if mirrored[i] else across, centre - top[i])
            title = f"{top[i]} down, {left[i]} right" + (", mirrored" if mirrored[i] else "")
            place.set_title(title, fontsize=7.5, loc="center")
    return figure


def _dot(axes, x: float, y: float) -> None:
    axes.plot(x, y, "o", color="white", markeredgecolor=INK, markeredgewidth=1.5, markersize=7)


@in_style
def picture_rows(rows: dict[str, Sequence[np.ndarray]], titles: Sequence[str], side: float = 1.15) -> Figure:
    """Pictures in rows with a name each, under titles of the columns.

    rows: uint8 (H, W, 3) each.
    """
    height, width = next(iter(rows.values()))[0].shape[:2]
    size = (side * len(titles) + 1.7, (side * height / width + 0.06) * len(rows) + 0.25)
    figure, axes = new_figure(*size, len(rows), len(titles))
    for i, (name, images) in enumerate(rows.items()):
        for place, image in zip(axes[i], images, strict=True):
            place.imshow(image)
            place.set(xticks=[], yticks=[])
            place.spines[:].set(visible=True, linewidth=0.5)
        axes[i, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for place, title in zip(axes[0], titles, strict=True):
        place.set_title(title, fontsize=9, loc="center")
    return figure


@in_style
def shift_sizes(sizes: dict[str, np.ndarray], axis_names: Sequence[str]) -> Figure:
    """By how many grey levels α of one standard deviation moves a picture along each axis, for each reading.

    sizes: (3,) for each reading.
    """
    figure, place = new_figure(8, 0.42 * len(sizes) + 1.0)
    place.axvline(255, color=GREY, linestyle=":")
    place.text(255, -0.6, " the whole scale", fontsize=9, va="center")
    for i, (name, marker, colour) in enumerate(zip(axis_names, "os^", (INK, ACCENT, SECOND), strict=True)):
        values = [size[i] for size in sizes.values()]
        place.plot(values, range(len(sizes)), marker, color=colour, markersize=7, label=name)
    place.grid(axis="y", color=PALE)
    place.set_axisbelow(True)
    place.set(xscale="log", xlabel="shift (grey levels, of 255)")
    place.set_ylim(-0.9, len(sizes) - 0.5)
    name_rows(place, list(sizes))
    label_ticks(place, (0.1, 1, 10, 100, 1000))
    figure.legend(loc="outside right upper", fontsize=9)
    return figure
