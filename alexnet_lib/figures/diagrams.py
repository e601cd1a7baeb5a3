"""§3, drawings of a net: arrays or a table in, a matplotlib figure out, in the style of `curves.py`."""

from math import prod

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle

from .curves import ACCENT, GREY, INK, PALE, bare, box_of_text, frame, in_style, name_rows, new_figure


@in_style
def figure_2(
    outputs: dict[str, tuple[int, ...]], kernels: dict[str, int], columns: dict[str, int], printed: dict[str, int]
) -> Figure:
    """The network as the paper draws it, from the sizes of the layers; below, their neurons.

    outputs: for each drawn layer (C, side, side) or (units,), both columns together, "input" first.
    kernels: side of the window with which a convolution looks at the layer before.
    columns: 2 where a layer sees its own column only, 1 where it sees both.
    printed: the neurons that the paper prints for a layer; one that is not the layer's own stands out.
    """
    figure, place = new_figure(11, 4.9)
    x, previous = 0.0, None
    bare(place)
    for name, shape in outputs.items():
        spatial = len(shape) == 3
        side = 0.35 + 1.55 * shape[1] / 224 if spatial else 0.22
        depth = 0.18 + 1.1 * shape[0] / 384 if spatial else 0.2
        alone = name in ("input", "fc8") or 2 not in columns.values()
        centres = [0.0] if alone else [1.45, -1.45]
        if previous is not None:
            _wires(place, previous, (x, centres), columns[name] == 2)
        for centre in centres:
            height = side if spatial else 1.9
            _box(place, x, centre, depth, height, 0.28 * side if spatial else 0.12)
            if spatial and name != "input":
                place.text(x + depth / 2, centre - height / 2 - 0.08, f"{shape[1]}²", ha="center", va="top", fontsize=8)
        _label(place, x + depth / 2, name, shape, kernels.get(name), alone)
        neurons = prod(shape)
        place.text(x + depth / 2, -4.1, f"{neurons:,}", ha="center", va="top", fontsize=8)
        if printed.get(name, neurons) != neurons:
            text = f"printed:\n{printed[name]:,}"
            place.text(x + depth / 2, -4.5, text, ha="center", va="top", fontsize=8, color=ACCENT, weight="bold")
        previous = (x + depth, centres)
        x += depth + 0.95
    if 2 in columns.values():
        for y, name in ((1.45, "GPU 1"), (-1.45, "GPU 2")):
            place.text(-1.8, y, name, va="center", fontsize=9)
    place.text(-1.8, -4.1, "neurons", va="top", fontsize=8)
    place.set(xlim=(-1.9, x - 0.4), ylim=(-5.3, 3.6), aspect="equal")
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
            look = {"color": ACCENT, "linestyle": "--"} if crossing else {"color": GREY}
            look |= {"arrowstyle": "-|>", "linewidth": 1.2}
            place.annotate("", (x1 - 0.04, target), (x0 + 0.06, source), arrowprops=look)


def _label(place, x: float, name: str, shape, kernel, alone: bool) -> None:
    """Name and window above, the number of maps or units below."""
    window = f"\n{kernel} × {kernel}" if kernel else ""
    place.text(x, 2.75 if not alone else 1.55, name + window, ha="center", va="bottom", fontsize=9, color=INK)
    half = shape[0] // 2
    count = f"{shape[0]}" if alone else f"{half}\n+ {half}"
    place.text(x, -2.95 if not alone else -1.65, count, ha="center", va="top", fontsize=9, color=INK)


@in_style
def shares(table: pd.DataFrame) -> Figure:
    """Where the parameters, the work and the neurons are: three bars of 100 %, cut by layer, from conv1 to fc8."""
    learned = table[table["parameters"] > 0]
    figure, place = new_figure(10, 2.1)
    greys = plt.cm.Greys(np.linspace(0.12, 0.75, len(learned)))
    for row, column in enumerate(["parameters", "multiply_adds", "neurons"]):
        parts, left = 100 * learned[column] / learned[column].sum(), 0.0
        for colour, (name, part) in zip(greys, parts.items(), strict=True):
            place.barh(row, part, left=left, color=colour, edgecolor="white")
            if part > 3:
                text, shade = f"{name}\n{part:.0f} %", "white" if colour[0] < 0.5 else INK
                place.text(left + part / 2, row, text, ha="center", va="center", fontsize=8, color=shade)
            left += part
    name_rows(place, ["parameters", "multiply-adds", "neurons"])
    place.set(xlabel="share of the whole net (%)", xlim=(0, 100))
    return figure


@in_style
def windows(side: int, kernel: int, stride: int) -> Figure:
    """Where the last windows of a convolution fall on a row of pixels, and what hangs over the edge."""
    figure, place = new_figure(10, 2.2)
    last = -(-(side - kernel) // stride)
    start = (last - 3) * stride
    place.add_patch(Rectangle((start - 3, 4.3), side - start + 3, 0.8, facecolor=PALE, edgecolor=GREY))
    place.text(start - 2.5, 4.7, f"… the last of the {side} pixels", va="center", fontsize=9)
    for pixel in range(side, last * stride + kernel):
        place.add_patch(Rectangle((pixel, 4.3), 1, 0.8, facecolor="white", edgecolor=ACCENT, hatch="////"))
    for row, window in enumerate(range(last - 3, last + 1)):
        first, over = window * stride, window * stride + kernel - side
        colour = ACCENT if over > 0 else INK
        place.add_patch(Rectangle((first, 3.2 - row), kernel, 0.7, facecolor="white", edgecolor=colour))
        text = f"window {window + 1}" + (f": {over} pixels too far" if over > 0 else "")
        place.text(first + 0.4, 3.55 - row, text, va="center", fontsize=9, color=colour)
    place.text(last * stride + kernel + 0.3, 4.7, "zeros", va="center", fontsize=9, color=ACCENT)
    place.axvline(side, color=INK, linewidth=1, linestyle="--")
    place.set(xlim=(start - 3, last * stride + kernel + 6), ylim=(0, 5.4), xlabel="pixel")
    place.set_yticks([])
    place.spines["left"].set_visible(False)
    return figure


@in_style
def slid_kernel(image: np.ndarray, kernel: np.ndarray, channel: np.ndarray, stride: int) -> Figure:
    """A picture with one window of a kernel, the kernel, and what it answers at every position.

    image: (S, S, 3) uint8; kernel: one colour of it, (k, k); channel: its answers.
    """
    figure, axes = new_figure(9, 3.3, 1, 3, width_ratios=[3, 1.1, 3])
    row, column = np.unravel_index(channel.argmax(), channel.shape)
    for place in axes[0]:
        bare(place)
    axes[0, 0].imshow(image)
    frame(axes[0, 0], (column * stride - 0.5, row * stride - 0.5), len(kernel))
    axes[0, 1].imshow(kernel, cmap="Greys_r")
    axes[0, 1].spines[:].set(visible=True, color=GREY)
    most = np.abs(channel).max()
    axes[0, 2].imshow(channel, cmap="Greys_r", vmin=-most, vmax=most)
    frame(axes[0, 2], (column - 1.5, row - 1.5), 3)
    axes[0, 0].set_title(f"the picture, {len(image)} pixels")
    axes[0, 1].set_title(f"a kernel, {len(kernel)} pixels")
    axes[0, 2].set_title(f"its channel, {len(channel)} positions")
    return figure


@in_style
def receptive_fields(image: np.ndarray, fields: pd.Series) -> Figure:
    """The squares that one unit in the middle of each layer's map sees, on a picture.

    image: (S, S, 3).
    """
    figure, place = new_figure(5.6, 5.6)
    middle, behind = image.shape[0] / 2, {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1}
    bare(place)
    place.imshow(image, alpha=0.65, extent=(0, image.shape[1], image.shape[0], 0))
    for name, field in fields.sort_values(ascending=False).items():
        edge = middle - field / 2
        place.add_patch(Rectangle((edge, edge), field, field, fill=False, edgecolor=INK, linewidth=1.4))
        at, side, apart = edge, "bottom", 2  # above its frame; the smallest has no room there, and is named below
        if field == fields.min():
            at, side, apart = middle + fields.nsmallest(2).iloc[1] / 2, "top", -3
        options = {"textcoords": "offset points", "ha": "center", "va": side, "fontsize": 8, "bbox": behind}
        place.annotate(f"{name}: {field} pixels", (middle, at), (0, apart), **options)
    return figure


@in_style
def who_talks(units: dict[str, str], crossing: pd.Series) -> Figure:
    """The two columns as two rows of boxes, and what each tells the other for one image.

    units: for each learned layer what one column has of it, such as "48 maps".
    crossing: for the layers that see both columns, the bytes that a column sends to the other.
    """
    figure, place = new_figure(11, 3.4)
    step, half, box = 1.7, 1.1, (1.2, 0.62)
    bare(place)
    box_of_text(place, (-step, 0), (0.7, 0.7), "image", 9, facecolor=PALE, edgecolor=INK)
    arrow = {"arrowstyle": "-|>", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    for i, (name, text) in enumerate(units.items()):
        before = i * step - step + box[0] / 2
        for y in (half, -half):
            box_of_text(place, (i * step, y), box, f"{name}\n{text}", 8, facecolor="white", edgecolor=INK, zorder=2)
            start = (before, y) if i else (-step + 0.35, 0.2 * np.sign(y))
            place.annotate("", (i * step - box[0] / 2, y), start, arrowprops=arrow | {"color": GREY})
            if name in crossing.index:
                end = (i * step - box[0] / 2, y - 0.18 * np.sign(y))
                broken = arrow | {"color": ACCENT, "linestyle": "--"}
                place.annotate("", end, (before, -y + 0.12 * np.sign(y)), arrowprops=broken)
        if name in crossing.index:
            text = f"{crossing[name] / 1000:.1f} kB\neach way"
            place.text(i * step + 0.1, 0, text, ha="center", va="center", fontsize=9, color=ACCENT)
    for y, name in ((half, "GPU 1"), (-half, "GPU 2")):
        place.text(-step - 0.4, y, name, va="center", fontsize=9)
    place.set(xlim=(-step - 0.5, (len(units) - 0.5) * step), ylim=(-1.6, 1.6))
    return figure


@in_style
def zeros_read(geometries: dict[str, np.ndarray], window: int) -> Figure:
    """For each geometry, how many of a window's pixels lie outside the picture, at every position of conv1."""
    figure, axes = new_figure(8.2, 3.4, 1, len(geometries))
    for place, (name, zeros) in zip(axes[0], geometries.items(), strict=True):
        shown = place.imshow(zeros, cmap="Greys", vmin=0, vmax=max(map(np.max, geometries.values())))
        place.set(title=name, xlabel="column of positions", ylabel="row of positions")
        place.spines[:].set_visible(True)
    figure.colorbar(shown, ax=list(axes[0]), label=f"zeros among {window} pixels", shrink=0.85)
    return figure


@in_style
def memory_bars(parts: dict[str, dict[str, float]], limit: float) -> Figure:
    """What training keeps in memory, one bar a case, cut by kind, and a device's limit (dashed); all in GiB."""
    figure, place = new_figure(10, 1.1 + 0.65 * len(parts))
    for row, kinds in enumerate(parts.values()):
        left = 0.0
        greys = plt.cm.Greys(np.linspace(0.12, 0.7, len(kinds)))
        for colour, (kind, size) in zip(greys, kinds.items(), strict=True):
            place.barh(row, size, left=left, color=colour, edgecolor="white", label=kind if row == 0 else None)
            left += size
        place.text(left + 0.03, row, f"{left:.2f}", va="center", fontsize=9)
    place.axvline(limit, color=ACCENT, linestyle="--")
    place.text(limit, -0.62, f" {limit:g} GiB", color=ACCENT, fontsize=9, va="center")
    name_rows(place, list(parts))
    place.set(xlabel="memory (GiB)", xlim=(0, 1.15 * limit))
    figure.legend(title="from left to right, lighter to darker", loc="outside lower center", ncols=3, fontsize=9)
    return figure


@in_style
def border(windows: dict[str, tuple[int, dict[int, list[int]]]], n: int = 5, shown: int = 5) -> Figure:
    """Windows of the channels at the border between two columns: filled, what each sums; hatched, what it can't see.

    windows: for each layer its number of maps, and the maps that miss neighbours with these.
    """
    figure, axes = new_figure(8, 3.7, 1, len(windows))
    for place, (name, (maps, missing)) in zip(axes[0], windows.items(), strict=True):
        middle, half = maps // 2, n // 2
        for i in range(middle - shown, middle + shown):
            for j in range(max(i - half, middle - shown), min(i + half + 1, middle + shown)):
                lost = j in missing.get(i, ())
                look = {"facecolor": "white", "edgecolor": ACCENT, "hatch": "////"} if lost else {"facecolor": GREY}
                look = {"facecolor": INK} if i == j else look
                place.add_patch(Rectangle((j - 0.42, i - 0.42), 0.84, 0.84, **look))
        place.axvline(middle - 0.5, color=ACCENT, linestyle="--", linewidth=1)
        place.axhline(middle - 0.5, color=ACCENT, linestyle="--", linewidth=1)
        ticks = list(range(middle - shown, middle + shown))
        place.set(title=f"{name}, {maps} channels", xlabel="channel that is summed", xticks=ticks, yticks=ticks)
        place.set(aspect="equal", xlim=(ticks[0] - 0.6, ticks[-1] + 0.6), ylim=(ticks[-1] + 0.6, ticks[0] - 0.6))
        place.tick_params(labelsize=8)
    axes[0, 0].set_ylabel("channel that is normalised")
    return figure


# ------------------------------------------------------------------------------------------------- §4.2, dropout


@in_style
def silent_units(sizes: tuple[int, ...], silent: set[tuple[int, int]], cut: set[tuple[int, int, int]]) -> Figure:
    """A small net three times: whole, with silent units, and, for contrast, with weights cut out.

    silent: (layer, unit) that fall silent. cut: (layer, from unit, to unit) of weights left out, from layer to next.
    """
    figure, axes = new_figure(8, 2.3, 1, 3)
    off = {(k, i, j) for k, i, j in _weights(sizes) if (k, i) in silent or (k + 1, j) in silent}
    panels = {
        "the whole net": (set(), set()),
        "dropout: units fall silent": (silent, off),
        "something else: weights fall out": (set(), cut),
    }
    for place, (title, (units, weights)) in zip(axes[0], panels.items(), strict=True):
        bare(place)
        for k, i, j in _weights(sizes):
            (x0, y0), (x1, y1) = _place(sizes, k, i), _place(sizes, k + 1, j)
            gone = (k, i, j) in weights
            style = {"color": PALE if units else ACCENT, "linestyle": ":"} if gone else {"color": INK, "linewidth": 0.7}
            place.plot([x0, x1], [y0, y1], zorder=1, **style)
        for k, count in enumerate(sizes):
            for i in range(count):
                off_unit = (k, i) in units
                style = {"facecolor": "white", "edgecolor": GREY if off_unit else INK}
                style |= {"linestyle": ":" if off_unit else "-"}
                place.add_patch(Circle(_place(sizes, k, i), 0.17, zorder=2, linewidth=1.2, **style))
                if off_unit:
                    place.text(*_place(sizes, k, i), "0", ha="center", va="center", fontsize=9, color=ACCENT, zorder=3)
        place.set(title=title, xlim=(-0.4, 1.6 * (len(sizes) - 1) + 0.4), ylim=(-0.4, max(sizes) * 0.6), aspect="equal")
    return figure


def _weights(sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """All weights as (layer, from unit, to unit)."""
    return [(k, i, j) for k in range(len(sizes) - 1) for i in range(sizes[k]) for j in range(sizes[k + 1])]


def _place(sizes: tuple[int, ...], layer: int, unit: int) -> tuple[float, float]:
    return 1.6 * layer, 0.6 * (unit + (max(sizes) - sizes[layer]) / 2)
