"""Every figure of the notebooks: arrays or a table in, a matplotlib figure out. One style, readable in grey."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

INK, GREY, PALE = "#222222", "#8a8a8a", "#dddddd"
ACCENT, SECOND = "#c8501e", "#2a6f97"  # dark and middle when printed in grey
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


in_style = plt.rc_context(STYLE)  # decorates each function that draws


def new_figure(width: float, height: float, rows=1, columns=1, **options) -> tuple[Figure, np.ndarray]:
    """A figure of this many inches and its axes (rows, columns).

    It is closed for pyplot at once, so that a notebook shows it where it is returned and nowhere else.
    """
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **options)
    plt.close(figure)
    return figure, axes


def bare(axes) -> None:
    """No ticks and no frame: a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


# ------------------------------------------------------------------------------------------------------- §2, data


@in_style
def pictures(images: Sequence[np.ndarray], titles: Sequence[str] = (), columns: int = 8, side: float = 1.15) -> Figure:
    """Pictures in a grid, each in its own shape; uint8 (H, W, 3)."""
    rows = -(-len(images) // columns)
    figure, axes = new_figure(columns * side, rows * (side + 0.2 * bool(len(titles))), rows, columns)
    for place in axes.flat:
        bare(place)
    for i, (place, image) in enumerate(zip(axes.flat, images, strict=False)):
        place.imshow(image)
        if len(titles):
            place.set_title(titles[i], fontsize=8, loc="center")
    return figure


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
            place.add_patch(Rectangle(corner, square, square, fill=False, edgecolor="white", linewidth=3))
            place.add_patch(Rectangle(corner, square, square, fill=False, edgecolor=ACCENT, linewidth=1.5))
    return figure


@in_style
def mean_image(mean: np.ndarray, image: np.ndarray) -> Figure:
    """The mean image (S, S, 3), how far each pixel of it lies from its overall mean, and an image before and after."""
    figure, axes = new_figure(10, 2.6, 1, 4)
    brightness = mean.mean(2) - mean.mean()
    for place in axes[0]:
        bare(place)
    axes[0, 0].imshow(mean.round().astype(np.uint8))
    axes[0, 0].set_title("the mean image")
    shown = axes[0, 1].imshow(brightness, cmap="gray")
    figure.colorbar(shown, ax=axes[0, 1], shrink=0.7, label="grey levels")
    axes[0, 1].set_title("its light, less the average")
    axes[0, 2].imshow(image)
    axes[0, 2].set_title("an image …")
    axes[0, 3].imshow(((image - mean) / 2 + 128).clip(0, 255).astype(np.uint8))
    axes[0, 3].set_title("… less the mean")
    return figure


@in_style
def colour_axes(pca, mean: np.ndarray, pixels: np.ndarray) -> Figure:
    """Left: pixels (N, 3) in the plane of the first two axes. Right: the mean colour moved along each axis."""
    figure, axes = new_figure(10, 3.6, 1, 2, width_ratios=[1, 1.5])
    colour = pixels.reshape(-1, 3).mean(0)
    along = (pixels - colour) @ pca.eigenvectors
    axes[0, 0].scatter(along[:, 0], along[:, 1], s=5, c=pixels / 255, linewidths=0)
    axes[0, 0].set(xlabel="along the first axis (grey levels)", ylabel="along the second", aspect="equal")
    deviations = np.sqrt(pca.eigenvalues)
    steps = np.linspace(-2, 2, 41)
    strips = mean + steps[:, None, None] * (deviations * pca.eigenvectors).T
    axes[0, 1].imshow(strips.transpose(1, 0, 2).clip(0, 255) / 255, aspect="auto", extent=(-2.05, 2.05, 2.5, -0.5))
    for line in (0.5, 1.5):
        axes[0, 1].axhline(line, color="white", linewidth=6)
    axes[0, 1].set_yticks(range(3), [f"{name}\n√λ = {d:.1f}" for name, d in zip("123", deviations, strict=True)])
    axes[0, 1].set(xlabel="standard deviations from the mean colour", title="what each principal axis looks like")
    axes[0, 1].tick_params(left=False)
    axes[0, 1].spines[:].set_visible(False)
    return figure


@in_style
def scores_by_hand(scores: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """One panel an image (row) with its scores in order: the label dark, the first five above the line."""
    figure, axes = new_figure(10, 2.6, 1, len(scores))
    for place, (name, row), label in zip(axes[0], scores.iterrows(), labels, strict=True):
        row = row.sort_values(ascending=False, kind="stable")
        place.barh(range(len(row)), row, color=[ACCENT if c == label else PALE for c in row.index], edgecolor=GREY)
        place.axhline(4.5, color=INK, linewidth=1, linestyle="--")
        rank = list(row.index).index(label) + 1
        verdict = "right" if rank == 1 else "wrong for top-1" if rank <= 5 else "wrong for both"
        place.set_title(f"{name}: {label}\n{verdict}", fontsize=9)
        place.set_yticks(range(len(row)), row.index, fontsize=8)
        place.set_xlim(0, 0.75)
        place.invert_yaxis()
    axes[0, 0].set_xlabel("probability")
    return figure


@in_style
def error_bars(table: pd.DataFrame) -> Figure:
    """Errors by method: columns "top-1 error" and "top-5 error", from 0 to 1, as two bars a row."""
    figure, axes = new_figure(8, 0.55 * len(table) + 0.7)
    place, rows = axes[0, 0], np.arange(len(table))
    for shift, column, colour in ((-0.19, "top-1 error", INK), (0.19, "top-5 error", GREY)):
        bars = place.barh(rows + shift, 100 * table[column], height=0.36, color=colour, label=column)
        place.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    place.set_yticks(rows, table.index)
    place.invert_yaxis()
    place.set(xlabel="validation error (%)", xlim=(0, 105))
    place.legend(loc="lower right")
    return figure


# ------------------------------------------------------------------------------------------------------- §3, nets


@in_style
def figure_2(outputs: dict[str, tuple[int, ...]], kernels: dict[str, int], columns: dict[str, int]) -> Figure:
    """The network as the paper draws it, from what the live model does.

    outputs: for each drawn layer (C, side, side) or (units,), both columns together, "input" first.
    kernels: side of the window with which a convolution looks at the layer before.
    columns: 2 where a layer sees its own column only, 1 where it sees both.
    """
    figure, axes = new_figure(11, 4.6)
    place, x, previous = axes[0, 0], 0.0, None
    bare(place)
    for name, shape in outputs.items():
        spatial = len(shape) == 3
        side = 0.35 + 1.55 * shape[1] / 224 if spatial else 0.22
        depth = 0.18 + 1.1 * shape[0] / 384 if spatial else 0.2
        alone = name == "input" or name == "fc8"
        centres = [0.0] if alone else [1.45, -1.45]
        if previous is not None:
            _wires(place, previous, (x, centres), columns[name] == 2)
        for centre in centres:
            height = side if spatial else 1.9
            _box(place, x, centre, depth, height, 0.28 * side if spatial else 0.12)
            if spatial and name != "input":
                place.text(
                    x + depth / 2,
                    centre - height / 2 - 0.2,
                    f"{shape[1]}²",
                    ha="center",
                    fontsize=8,
                    color=INK,
                )
        _label(place, x + depth / 2, name, shape, kernels.get(name), alone)
        previous = (x + depth, centres)
        x += depth + (0.95 if spatial else 0.75)
    for y, name in ((1.45, "GPU 1"), (-1.45, "GPU 2")):
        place.text(-0.9, y, name, va="center", fontsize=9, color=GREY)
    place.set(xlim=(-1.0, x - 0.4), ylim=(-3.9, 3.6), aspect="equal")
    return figure


def _box(place, x: float, y: float, depth: float, height: float, slant: float) -> None:
    """A block of maps seen from the front and above."""
    bottom, top = y - height / 2, y + height / 2
    faces = {
        "#ffffff": [(x, bottom), (x + depth, bottom), (x + depth, top), (x, top)],
        "#efefef": [(x, top), (x + slant, top + slant), (x + depth + slant, top + slant), (x + depth, top)],
        "#d8d8d8": [(x + depth, bottom), (x + depth + slant, bottom + slant)]
        + [(x + depth + slant, top + slant), (x + depth, top)],
    }
    for colour, corners in faces.items():
        place.add_patch(Polygon(corners, facecolor=colour, edgecolor=INK, linewidth=0.8, zorder=2))


def _wires(place, previous, current, own_column_only: bool) -> None:
    """Lines from the blocks of one layer to those of the next; the ones that cross columns stand out."""
    (x0, sources), (x1, targets) = previous, current
    for source in sources:
        for target in targets:
            crossing = len(sources) == len(targets) == 2 and source != target
            if crossing and own_column_only:
                continue
            style = {"color": ACCENT, "linestyle": "--"} if crossing else {"color": GREY}
            place.annotate(
                "",
                (x1 - 0.04, target),
                (x0 + 0.06, source),
                arrowprops={"arrowstyle": "-|>", "linewidth": 1.2, **style},
            )


def _label(place, x: float, name: str, shape, kernel, alone: bool) -> None:
    """Name and window above, the number of maps or units below."""
    window = f"\n{kernel} × {kernel}" if kernel else ""
    place.text(x, 2.75 if not alone else 1.55, name + window, ha="center", va="bottom", fontsize=9, color=INK)
    half = shape[0] // 2
    count = f"{shape[0]}" if alone else f"{half}\n+ {half}"
    place.text(x, -2.95 if not alone else -1.65, count, ha="center", va="top", fontsize=9, color=INK)


@in_style
def shares(table: pd.DataFrame) -> Figure:
    """Where the parameters are, and where the work is: two bars of 100 %, cut by layer."""
    learned = table[table["parameters"] > 0]
    figure, axes = new_figure(10, 2.1)
    place = axes[0, 0]
    greys = plt.cm.Greys(np.linspace(0.12, 0.75, len(learned)))
    for row, column in enumerate(["parameters", "multiply_adds", "neurons"]):
        parts, left = 100 * learned[column] / learned[column].sum(), 0.0
        for colour, (name, part) in zip(greys, parts.items(), strict=True):
            place.barh(row, part, left=left, color=colour, edgecolor="white")
            if part > 3:
                shade = "white" if colour[0] < 0.6 else INK
                place.text(
                    left + part / 2,
                    row,
                    f"{name}\n{part:.0f} %",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=shade,
                )
            left += part
    place.set_yticks(range(3), ["parameters", "multiply-adds", "neurons"])
    place.set(xlabel="share of the whole net (%)", xlim=(0, 100))
    place.invert_yaxis()
    return figure


@in_style
def windows(side: int, kernel: int, stride: int) -> Figure:
    """Where the last windows of a convolution fall on a row of `side` pixels, and what hangs over the edge."""
    figure, axes = new_figure(10, 2.2)
    place = axes[0, 0]
    last = -(-(side - kernel) // stride)
    start = (last - 3) * stride
    place.add_patch(Rectangle((start - 3, 4.3), side - start + 3, 0.8, facecolor=PALE, edgecolor=GREY))
    place.text(start - 2.5, 4.7, f"… the last of the {side} pixels", va="center", fontsize=9)
    for pixel in range(side, last * stride + kernel):
        place.add_patch(Rectangle((pixel, 4.3), 1, 0.8, facecolor="white", edgecolor=ACCENT, hatch="////"))
    for row, window in enumerate(range(last - 3, last + 1)):
        over = window * stride + kernel > side
        place.add_patch(
            Rectangle(
                (window * stride, 3.2 - row),
                kernel,
                0.7,
                facecolor="white",
                edgecolor=ACCENT if over else INK,
            )
        )
        text = f"window {window + 1}" + (f": {window * stride + kernel - side} pixels too far" if over else "")
        place.text(window * stride + 0.4, 3.55 - row, text, va="center", fontsize=9, color=ACCENT if over else INK)
    place.axvline(side, color=INK, linewidth=1, linestyle="--")
    place.set(xlim=(start - 3, last * stride + kernel + 6), ylim=(0, 5.4), xlabel="pixel")
    place.set_yticks([])
    place.spines["left"].set_visible(False)
    return figure


@in_style
def connections(dependence: dict[str, np.ndarray]) -> Figure:
    """For each layer, which input maps (across) each output map (down) depends on: black for yes."""
    figure, axes = new_figure(10, 2.7, 1, len(dependence))
    for place, (name, matrix) in zip(axes[0], dependence.items(), strict=True):
        place.imshow(matrix, cmap="Greys", vmin=0, vmax=1.4, aspect="auto")
        place.set(title=f"{name}: {matrix.mean():.0%} of all pairs", xlabel=f"{matrix.shape[1]} input maps")
        place.axvline(matrix.shape[1] / 2 - 0.5, color=ACCENT, linewidth=1)
        place.axhline(matrix.shape[0] / 2 - 0.5, color=ACCENT, linewidth=1)
        place.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("output maps")
    return figure


@in_style
def receptive_fields(image: np.ndarray, fields: pd.Series) -> Figure:
    """The squares that one unit in the middle of each layer's map sees, on a picture (S, S, 3)."""
    figure, axes = new_figure(5.6, 4.6)
    place, middle = axes[0, 0], image.shape[0] / 2
    bare(place)
    place.imshow(image, alpha=0.65, extent=(0, image.shape[1], image.shape[0], 0))
    label = -20.0
    for name, field in fields.sort_values(ascending=False).items():
        corner = (middle - field / 2, middle - field / 2)
        label = max(label + 15, middle - field / 2 + 4)
        place.add_patch(Rectangle(corner, field, field, fill=False, edgecolor=INK, linewidth=1.4))
        place.annotate(
            f"{name}: {field}", (middle + field / 2, middle - field / 2), (image.shape[1] + 6, label), va="center",
            fontsize=9, arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.7},
        )  # fmt: skip
    return figure


# --------------------------------------------------------------------------------------------------- §5, learning


@in_style
def curves(lines: dict[str, tuple], xlabel: str, ylabel: str, log=False, points=False, event=None) -> Figure:
    """Lines by name, each (x, y), told apart without colour; `event` marks a place on x: (x, what happens there)."""
    figure, axes = new_figure(7, 2.8)
    place = axes[0, 0]
    for (name, (x, y)), style in zip(lines.items(), ("-", "--", ":"), strict=False):
        place.plot(x, y, style, marker="o" if points else "", markersize=3, label=name)
    if event is not None:
        place.axvline(event[0], color=GREY, linestyle=":")
        place.text(event[0], place.get_ylim()[1], f" {event[1]}", va="top", fontsize=9)
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
    for epoch in rates.index[1:][rates.to_numpy()[1:] < 0.5 * rates.to_numpy()[:-1]]:
        for place in axes[0]:
            place.axvline(epoch - 0.5, color=PALE, zorder=0)
    axes[0, 0].axhline(np.log(classes), color=GREY, linestyle=":")
    axes[0, 0].text(history["epoch"].max(), np.log(classes), "a guess", ha="right", va="bottom", fontsize=9)
    axes[0, 0].set(xlabel="epoch", ylabel="loss (nats)")
    axes[0, 1].set(xlabel="epoch", ylabel="top-1 error (%)", ylim=(0, 100))
    axes[0, 1].legend()
    return figure


@in_style
def kernels(weights: np.ndarray, columns: int) -> Figure:
    """Kernels of the first layer, (N, 3, k, k), all on one scale; one block of rows a GPU column."""
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
    return figure
