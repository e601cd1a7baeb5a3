"""Figures of the notebooks: arrays or a table in, a matplotlib figure out. One style, readable in grey.

Those of a net are in `diagrams.py`.
"""

from collections.abc import Callable, Sequence
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .descriptions import described

INK, GREY, PALE = "#222222", "#8a8a8a", "#dddddd"
ACCENT, SECOND = "#c8501e", "#2a6f97"  # dark and middle when printed in grey
LINES = (("-", INK), ("--", ACCENT), (":", SECOND))  # told apart in grey as well
STYLE = {
    "figure.dpi": 90,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.prop_cycle": plt.cycler(color=[INK, ACCENT, SECOND]),
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "savefig.bbox": "tight",
}


def in_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorates each function that draws; the first sentence of its documentation becomes the figure's alt text."""

    @wraps(draw)
    def drawn(*arguments, **options) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*arguments, **options)
        return described(figure, draw.__doc__ or draw.__name__)  # `python -OO` has no documentation

    return drawn


def new_figure(width: float, height: float, rows=1, columns=1, **options) -> tuple[Figure, np.ndarray]:
    """A figure of this many inches and its axes (rows, columns).

    It is closed for pyplot at once, so that a notebook shows it where it is returned and nowhere else.
    """
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **options)
    plt.close(figure)
    return figure, axes


def bare(axes) -> None:
    """No ticks and no frame: a picture."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def name_rows(axes, names: Sequence[str], **options) -> None:
    """Names the rows at 0, 1, 2 …, the first at the top."""
    axes.set_yticks(range(len(names)), names, **options)
    axes.invert_yaxis()


def box_of_text(axes, centre: tuple[float, float], size: tuple[float, float], text: str, fontsize: int, **look) -> None:
    """A rectangle around this centre, (width, height) in size, with words in its middle."""
    corner = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
    axes.add_patch(Rectangle(corner, *size, **look))
    axes.text(*centre, text, ha="center", va="center", fontsize=fontsize, zorder=3)


def label_ticks(axes, places) -> None:
    """Ticks of a logarithmic axis at these places alone, which are written out."""
    axes.minorticks_off()
    axes.set_xticks(sorted(places), sorted(places))


def frame(axes, corner: tuple[float, float], side: float, white: float = 3, dark: float = 1.5) -> None:
    """A square that can be seen on any picture: a coloured line on a white one, of these widths."""
    for colour, width in (("white", white), (ACCENT, dark)):
        axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=width))


def level(axes, y: float, text: str, x: float) -> None:
    """A dotted line across, with its name above its end at x."""
    axes.axhline(y, color=GREY, linestyle=":")
    axes.text(x, y, text, ha="right", va="bottom", fontsize=9)


def seed_lines(axes, x, table: pd.DataFrame, look: tuple[str, str], label: str) -> None:
    """A thin line a seed, which is a column of the table, and a thick one for their mean; look: line style, colour."""
    style, colour = look
    axes.plot(x, table, style, color=colour, linewidth=0.6, alpha=0.6)
    axes.plot(x, table.mean(axis=1), style, color=colour, linewidth=2, label=label)


# --------------------------------------------------------------------------------------------------------- pictures


@in_style
def pictures(images: Sequence[np.ndarray], titles: Sequence[str] = (), columns: int = 8, side: float = 1.15) -> Figure:
    """Pictures in a grid, each in its own shape.

    images: uint8 (H, W, 3).
    """
    rows = -(-len(images) // columns)
    figure, axes = new_figure(columns * side, rows * (side + 0.2 * bool(len(titles))), rows, columns)
    for place in axes.flat:
        bare(place)
    for i, (place, image) in enumerate(zip(axes.flat, images, strict=False)):
        place.imshow(image)
        if len(titles):
            place.set_title(titles[i], fontsize=8, loc="center")
    return figure


# ------------------------------------------------------------------------------------------- §3.1, nonlinearities

# as in the paper's Figure 1: ReLU solid, tanh dashed
LOOKS = {
    "relu": {"label": "ReLU", "linestyle": "-", "color": INK},
    "tanh": {"label": "tanh", "linestyle": "--", "color": ACCENT},
    "logistic": {"label": "logistic", "linestyle": ":", "color": SECOND},
    "abs_tanh": {"label": "|tanh|", "linestyle": "-.", "color": GREY},
}
SHOWN = {activation: line["label"] for activation, line in LOOKS.items()}
MARKERS = {"relu": "o", "tanh": "s", "logistic": "^", "abs_tanh": "D"}


@in_style
def activation_functions(table: pd.DataFrame) -> Figure:
    """Left, activation functions; right, their slopes.

    table: columns x, activation, value, slope.
    """
    figure, axes = new_figure(9, 2.8, 1, 2)
    for activation, rows in table.groupby("activation", sort=False):
        for place, column in zip(axes[0], ("value", "slope"), strict=True):
            place.plot(rows["x"], rows[column], **LOOKS[activation])
    axes[0, 0].set(xlabel="input", ylabel="output", ylim=(-1.1, 2.1))
    axes[0, 1].set(xlabel="input", ylabel="slope", ylim=(-1.1, 1.1))
    axes[0, 0].legend()
    return figure


@in_style
def race(panels: dict[str, dict[str, pd.DataFrame]], target: float, highest: float = 0.9) -> Figure:
    """Training error by epoch as in Figure 1; dotted, the target.

    panels: for each title and activation a table: epoch, training_error.
    """
    figure, axes = new_figure(4.8 * len(panels), 3.2, 1, len(panels), sharex=True, sharey=True)
    for place, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for activation, rows in lines.items():
            place.plot(rows["epoch"], 100 * rows["training_error"], **LOOKS[activation])
        place.axhline(100 * target, color=GREY, linestyle=":")
        place.set(xlabel="epoch", title=title, ylim=(0, 100 * highest))
    place.set_xlim(left=0)
    place.xaxis.get_major_locator().set_params(integer=True)
    place.text(place.get_xlim()[1], 100 * target, f"{target:.0%}", ha="right", va="bottom", fontsize=9)
    axes[0, 0].set_ylabel("training error (%)")
    _legend_of_all(axes)
    return figure


@in_style
def saturated_units(panels: dict[str, pd.DataFrame]) -> Figure:
    """The share of saturated units of each layer by epoch.

    panels: for each title a table: epoch, saturated1, saturated2, …
    """
    figure, axes = new_figure(2.6 * len(panels), 2.6, 1, len(panels), sharey=True)
    for place, (title, rows) in zip(axes[0], panels.items(), strict=True):
        layers = rows.filter(like="saturated").dropna(axis=1)
        for number, (layer, style) in enumerate(zip(layers, ("-", "--", ":", "-."), strict=False), start=1):
            place.plot(rows["epoch"], 100 * rows[layer], style, label=f"layer {number}")
        place.set(xlabel="epoch", title=title, ylim=(0, 100))
        place.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("saturated units (%)")
    axes[0, -1].legend()
    return figure


@in_style
def rate_search(panels: dict[str, pd.DataFrame], longest: int) -> Figure:
    """Epochs to the target by learning rate; hollow on top, runs that needed more than the longest or were given up.

    panels: for each title a table: learning_rate, activation, epochs (infinite for what was given up).
    """
    figure, axes = new_figure(4.8 * len(panels), 3.2, 1, len(panels), sharex=True, sharey=True)
    for place, (title, table) in zip(axes[0], panels.items(), strict=True):
        place.axhspan(0.93 * longest, longest * 1.2**4, color=PALE, linewidth=0, zorder=0)
        for row, (activation, marker) in enumerate(MARKERS.items()):
            rows = table[table["activation"] == activation].sort_values("learning_rate")
            if rows.empty:
                continue
            reached, look = (rows["epochs"] <= longest).to_numpy(), LOOKS[activation]
            place.plot(rows["learning_rate"][reached], rows["epochs"][reached], marker=marker, **look)
            given_up = rows["learning_rate"][~reached]
            height = np.full(len(given_up), longest * 1.2**row)
            place.plot(given_up, height, marker, color=look["color"], markerfacecolor="white", markersize=5)
        place.set(xlabel="learning rate", xscale="log", yscale="log", title=title)
        place.set_yticks([2, 5, 10, 20, 40], ["2", "5", "10", "20", "given up"])
        place.minorticks_off()
    axes[0, 0].set_ylabel("epochs to the target")
    _legend_of_all(axes)
    return figure


def _legend_of_all(axes) -> None:
    """One legend, in the first panel, for the lines of all of them."""
    shown = {}
    for place in axes.flat:
        shown |= {label: line for line, label in zip(*place.get_legend_handles_labels(), strict=True)}
    axes.flat[0].legend(shown.values(), shown)


# --------------------------------------------------------------------------------------------------- §5, learning


@in_style
def curves(lines: dict[str, tuple], xlabel: str, ylabel: str, log=False, points=False, event=None) -> Figure:
    """Curves, told apart without colour.

    lines: (x, y) each. event: marks a place on x, (x, what happens there).
    """
    figure, axes = new_figure(7, 2.8)
    place = axes[0, 0]
    for (name, (x, y)), style in zip(lines.items(), ("-", "--", ":"), strict=False):
        place.plot(x, y, style, marker="o" if points else "", markersize=3, label=name)
    if event is not None:
        place.axvline(event[0], color=GREY, linestyle=":")
        place.text(event[0], place.get_ylim()[1], f" {event[1]}", va="bottom", fontsize=9)
    place.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    place.legend()
    return figure


@in_style
def learning_curves(history: pd.DataFrame, classes: int) -> Figure:
    """Loss and top-1 error of both splits by epoch; dotted, the loss of a guess and the drops of the rate."""
    figure, axes = new_figure(10, 3.2, 1, 2)
    for split, style, name in (("train", "--", "training, as trained"), ("val", "-", "validation")):
        rows = history[history["split"] == split]
        axes[0, 0].plot(rows["epoch"], rows["loss"], style, label=name)
        axes[0, 1].plot(rows["epoch"], 100 * rows["top1"], style, label=name)
    rates = history[history["split"] == "val"].set_index("epoch")["learning_rate"]
    change = rates / rates.shift()
    for epoch in rates.index[change.between(0.05, 0.2)]:
        for place in axes[0]:
            place.axvline(epoch - 0.5, color=PALE, zorder=0)
    level(axes[0, 0], np.log(classes), "a guess", history["epoch"].max())
    axes[0, 0].set(xlabel="epoch", ylabel="loss (nats)")
    axes[0, 1].set(xlabel="epoch", ylabel="top-1 error (%)", ylim=(0, 100))
    axes[0, 1].legend()
    return figure


@in_style
def kernels(weights: np.ndarray, columns: int) -> Figure:
    """Kernels of the first layer; one block of rows a column of the net, the first above.

    weights: (N, 3, k, k).
    """
    count, _, side, _ = weights.shape
    across = 12 if count > 24 else count // columns
    rows = -(-count // across)
    low, high = weights.min(), weights.max()
    wall = np.ones((rows * (side + 1) + 3, across * (side + 1), 3))
    for i, kernel in enumerate((weights - low) / (high - low)):
        row, column = divmod(i, across)
        top = row * (side + 1) + (3 if i >= count // columns else 0)
        wall[top : top + side, column * (side + 1) : column * (side + 1) + side] = kernel.transpose(1, 2, 0)
    figure, axes = new_figure(9, 9 * wall.shape[0] / wall.shape[1])
    bare(axes[0, 0])
    axes[0, 0].imshow(wall)
    for column in range(columns if columns > 1 else 0):
        middle = (column + 0.5) / columns * len(wall)
        axes[0, 0].text(-2, middle, f"column {column + 1}", rotation=90, ha="right", va="center", fontsize=9)
    return figure
