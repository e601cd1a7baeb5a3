"""Figures of views and colours, and of when they are made (§4.1); the style is that of `figures.py`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .curves import ACCENT, INK, PALE, bare, frame, in_style, name_rows, new_figure


@in_style
def crop_places(image: np.ndarray, views, crops: np.ndarray) -> Figure:
    """Left, an image with the borders of its crops; right, the crops as the net sees them, the mirrored ones named.

    views: `augmentation.Views` of the one image; crops: (N, side, side, 3).
    """
    columns = -(-len(crops) // 2)
    figure = plt.figure(figsize=(2.8 + 1.4 * columns, 3.0), layout="constrained")
    plt.close(figure)
    left, right = figure.subfigures(1, 2, width_ratios=[2.8, 1.4 * columns])
    place, side = left.subplots(), crops.shape[1]
    bare(place)
    place.imshow(image)
    for top, across in zip(views.top, views.left, strict=True):
        frame(place, (across - 0.5, top - 0.5), side, 2.5, 1)
    for i, place in enumerate(right.subplots(2, columns, squeeze=False).flat):
        bare(place)
        if i < len(crops):
            place.imshow(crops[i])
            title = f"{views.top[i]} down, {views.left[i]} right" + (", mirrored" if views.mirrored[i] else "")
            place.set_title(title, fontsize=7.5, loc="center")
    return figure


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
def timeline(panels: dict[str, pd.DataFrame]) -> Figure:
    """When batches are made and when steps are taken.

    panels: for each title a table: what ("batch" or "step"), start and end, in seconds.
    """
    figure, axes = new_figure(9, 1.15 * len(panels) + 0.3, len(panels))
    for place, (title, spans) in zip(axes[:, 0], panels.items(), strict=True):
        for row, (what, colour) in enumerate((("batch", ACCENT), ("step", PALE))):
            rows = spans[spans["what"] == what]
            bars = list(zip(rows["start"], rows["end"] - rows["start"], strict=True))
            place.broken_barh(bars, (row - 0.35, 0.7), facecolor=colour, edgecolor=INK, linewidth=0.6)
        name_rows(place, ["batch made", "step taken"])
        place.set(title=title, xlim=(0, spans["end"].max()))
    axes[-1, 0].set_xlabel("seconds")
    return figure
