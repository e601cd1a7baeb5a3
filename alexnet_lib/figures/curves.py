"""Figures of the notebooks: arrays or a table in, a matplotlib figure out. One style, readable in grey.

Those of a net are in `diagrams.py`.
"""

from collections.abc import Callable, Sequence
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FuncFormatter

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
    "text.parse_math": False,  # between two $ in a class's or a folder's name, matplotlib would see a formula
}


def in_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorates each function that draws; the first sentence of its documentation becomes the figure's alt text."""

    @wraps(draw)
    def drawn(*arguments, **options) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*arguments, **options)
        _formulas_at_axes(figure)
        return described(figure, draw.__doc__ or draw.__name__)  # `python -OO` has no documentation

    return drawn


def _formulas_at_axes(figure: Figure) -> None:
    """Let matplotlib write the numbers at an axis, powers of ten as formulas; all other words are as STYLE has them."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            numbers = not isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter)
            for tick in axis.get_major_ticks():
                tick.label1.set_parse_math(numbers)
            for tick in axis.get_minor_ticks():
                tick.label1.set_parse_math(True)


def new_figure(width: float, height: float, *grid: int, **options) -> tuple[Figure, Axes | np.ndarray]:
    """A figure of this many inches, and its axes: (rows, columns) of a grid, or the only one.

    It is closed for pyplot at once, so that a notebook shows it where it is returned and nowhere else.
    """
    figure, axes = plt.subplots(*grid, figsize=(width, height), squeeze=not grid, layout="constrained", **options)
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


def by_seed(axes, x, table: pd.DataFrame, look: tuple[str, str], label: str) -> None:
    """A thin line a seed, which is a column of the table, and a thick one for their mean; look: line style, colour."""
    style, colour = look
    axes.plot(x, table, style, color=colour, linewidth=0.6, alpha=0.6)
    axes.plot(x, table.mean(axis=1), style, color=colour, linewidth=2, label=label)


# --------------------------------------------------------------------------------------------------------- pictures


@in_style
def pictures(images: Sequence[np.ndarray], titles: Sequence[str], columns: int = 8, side: float = 1.15) -> Figure:
    """Pictures in a grid, each in its own shape.

    images: uint8 (H, W, 3).
    """
    rows = -(-len(images) // columns)
    figure, axes = new_figure(columns * side, rows * (side + 0.2), rows, columns)
    for place in axes.flat:
        bare(place)
    for place, (image, title) in zip(axes.flat, zip(images, titles, strict=True), strict=False):
        place.imshow(image)
        place.set_title(title, fontsize=8, loc="center")
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
    figure, axes = new_figure(7.2, 2.3, 1, 2)
    for activation, rows in table.groupby("activation", sort=False):
        for place, column in zip(axes[0], ("value", "slope"), strict=True):
            place.plot(rows["x"], rows[column], **LOOKS[activation])
    axes[0, 0].set(xlabel="input", ylabel="output", ylim=(-1.1, 2.1))
    axes[0, 1].set(xlabel="input", ylabel="slope", ylim=(table["slope"].min() - 0.1, 1.1))
    axes[0, 0].legend()
    return figure


@in_style
def by_batch(panels: dict[str, dict[str, Sequence[float]]], guess: float, over: int = 40) -> Figure:
    """Training error by batch: lines, running means; dots, single batches where lines are two; dotted, a guess.

    panels: for each title and line the error of each batch. Lines named as in LOOKS look so. over: batches of a mean.
    """
    figure, axes = new_figure(max(6.5, 4.5 * len(panels)), 3, 1, len(panels), sharex=True, sharey=True)
    for place, (title, lines) in zip(axes[0], panels.items(), strict=True):
        others = iter(((":", SECOND), ("-.", GREY), ("-", SECOND)))
        for name, errors in lines.items():
            style, colour = ("", "") if name in LOOKS else next(others)
            look = LOOKS.get(name, {"label": name, "linestyle": style, "color": colour})
            batches = np.arange(1, len(errors) + 1)
            if len(lines) <= 2:
                place.plot(batches, 100 * np.asarray(errors), ".", color=look["color"], markersize=2, alpha=0.25)
            few = min(over, len(errors))
            means = np.convolve(errors, np.full(few, 1 / few), "valid")
            place.plot(batches[few - 1 :], 100 * means, linewidth=2, **look)
        level(place, 100 * guess, "a guess", place.get_xlim()[1])
        place.set(xlabel="batch", title=title, ylim=(0, 105))
        place.legend(loc="lower left")
    axes[0, 0].set_ylabel("training error (%)")
    return figure


@in_style
def figure_1(
    panels: dict[str, dict[str, list]], target: float, brackets: dict[str, tuple[float, float, str]]
) -> Figure:
    """Training error by epoch as in Figure 1, a line a seed; dotted, the target; a bracket, how far apart they meet it.

    panels: for each title and activation a table a seed: epoch, training_error. brackets: (from, to, text) by title.
    """
    figure, axes = new_figure(4.2 * len(panels), 2.8, 1, len(panels), sharex=True, sharey=True)
    for place, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for activation, seeds in lines.items():
            for number, rows in enumerate(seeds):
                look = LOOKS[activation] | {"linewidth": 1} | ({"label": ""} if number else {})
                place.plot(rows["epoch"], 100 * rows["training_error"], **look)
        place.axhline(100 * target, color=GREY, linestyle=":")
        if title in brackets:
            start, end, text = brackets[title]
            for x in (start, end):
                place.plot([x, x], [100 * target - 6, 100 * target], color=INK, linewidth=1)
            place.plot([start, end], [100 * target - 6] * 2, color=INK, linewidth=2)
            place.text(start, 100 * target - 8, text, va="top")
        place.set(xlabel="epoch", title=title, ylim=(0, 80))
        place.legend(loc="upper right")
    place.text(place.get_xlim()[1], 100 * target, f"{target:.0%}", ha="right", va="bottom", fontsize=9)
    axes[0, 0].set_ylabel("training error (%)")
    return figure


@in_style
def error_by_rate(panels: dict[str, pd.DataFrame], after: int, columns: int = 2) -> Figure:
    """Training error after some epochs by learning rate, a panel a way to begin: each unit's best rate is filled.

    panels: for each title a table: learning_rate, activation, training_error; several rows of one rate are seeds.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(3.7 * columns, 1.9 * rows, rows, columns, sharex=True, sharey=True)
    for place, (title, table) in zip(axes.flat, panels.items(), strict=True):
        for activation, runs in table.groupby("activation"):
            look, marker = LOOKS[activation], MARKERS[activation]
            means = 100 * runs.groupby("learning_rate")["training_error"].mean()
            place.plot(means.index, means, marker=marker, markerfacecolor="white", markersize=5, **look)
            best = runs[runs["learning_rate"] == means.idxmin()]
            place.plot(best["learning_rate"], 100 * best["training_error"], marker, color=look["color"], markersize=5)
        place.set(title=title, xscale="log", ylim=(0, 100))
        place.minorticks_off()
    for place in axes[-1]:
        place.set_xlabel("learning rate")
    for place in axes[:, 0]:
        place.set_ylabel(f"training error after\n{after} epochs (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


@in_style
def outputs(panels: dict[str, np.ndarray], flat: float) -> Figure:
    """What the units of a layer put out, over many pictures: a histogram each; shaded, where the function is flat.

    flat: the absolute value above which an output counts as saturated.
    """
    figure, axes = new_figure(2.6 * len(panels), 2.4, 1, len(panels), sharey=True)
    for place, (title, values) in zip(axes[0], panels.items(), strict=True):
        for side in (-1, 1):
            place.axvspan(side * flat, side * 1.03, color=PALE, linewidth=0, zorder=0)
        shares = np.full(values.size, 100 / values.size)
        place.hist(values, np.linspace(-1, 1, 41), weights=shares, color=SECOND, edgecolor=INK, linewidth=0.3)
        place.set(title=title, xlabel="output", xlim=(-1.03, 1.03))
    axes[0, 0].set_ylabel("units (%)")
    return figure


@in_style
def saturated_units(panels: dict[str, pd.DataFrame]) -> Figure:
    """The share of saturated units of each layer by epoch.

    panels: for each title a table: epoch, saturated1, saturated2, …
    """
    figure, axes = new_figure(2.3 * len(panels) + 1, 2, 1, len(panels), sharey=True)
    for place, (title, rows) in zip(axes[0], panels.items(), strict=True):
        layers = rows.filter(like="saturated").dropna(axis=1)
        for number, (layer, style) in enumerate(zip(layers, ("-", "--", ":", "-."), strict=False), start=1):
            place.plot(rows["epoch"], 100 * rows[layer], style, label=f"layer {number}")
        place.set(xlabel="epoch", title=title, ylim=(0, 100))
        place.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("saturated units (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


# --------------------------------------------------------------------------------------------------- §5, learning


@in_style
def curves(lines: dict[str, tuple], xlabel: str, ylabel: str, log=False, points=False, event=None) -> Figure:
    """How one quantity changes with another, a line each.

    lines: (x, y) each, told apart without colour. event: marks a place on x, (x, what happens there).
    """
    figure, place = new_figure(7, 2.8)
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
    """Loss and top-1 error of both splits by epoch; dotted, a guess's loss; upright lines, sudden drops in rate."""
    figure, axes = new_figure(10, 3.2, 1, 2)
    for split, style, name in (("train", "--", "training, as trained"), ("val", "-", "validation")):
        rows = history[history["split"] == split]
        point = "o" if len(rows) == 1 else ""
        axes[0, 0].plot(rows["epoch"], rows["loss"], style, marker=point, label=name)
        axes[0, 1].plot(rows["epoch"], 100 * rows["top1"], style, marker=point, label=name)
    rates = history[history["split"] == "val"].set_index("epoch")["learning_rate"]
    change = rates / rates.shift()
    little_by_little = change.between(0.2, 0.999, inclusive="neither").any()
    for epoch in rates.index[change.between(0.05, 0.2) & (not little_by_little)]:
        for place in axes[0]:
            place.axvline(epoch - 0.5, color=PALE, zorder=0)
    level(axes[0, 0], np.log(classes), "a guess", history["epoch"].max())
    for place in axes[0]:
        place.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
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
    of_column = count // columns
    across = 12 if count > 24 else of_column
    rows = -(-of_column // across)
    low, high = weights.min(), weights.max()
    wall = np.ones((columns * rows * (side + 1) + 3, across * (side + 1), 3))
    for i, kernel in enumerate((weights - low) / (high - low)):
        which, place = divmod(i, of_column)
        row, column = divmod(place, across)
        top = (which * rows + row) * (side + 1) + 3 * which
        wall[top : top + side, column * (side + 1) : column * (side + 1) + side] = kernel.transpose(1, 2, 0)
    figure, place = new_figure(9, 9 * wall.shape[0] / wall.shape[1])
    bare(place)
    place.imshow(wall)
    for column in range(columns if columns > 1 else 0):
        middle = (column + 0.5) / columns * len(wall)
        place.text(-2, middle, f"column {column + 1}", rotation=90, ha="right", va="center", fontsize=9)
    return figure
