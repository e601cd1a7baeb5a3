"""Figures of responses, before and after normalisation (§3.3); the style is that of `curves.py`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .curves import ACCENT, GREY, INK, PALE, frame, in_style, name_rows, new_figure


@in_style
def gains(deviations: np.ndarray, lines: dict[str, np.ndarray], limits: dict[float, str]) -> Figure:
    """How much of the sum of rectified normal values is left, by their deviation; dotted, what is left of tiny ones.

    lines: for each convention the sum of responses over that of the rectified values, by standard deviation before.
    """
    figure, place = new_figure(6, 2.4)
    for (name, gain), style in zip(lines.items(), ("-", "--", ":"), strict=False):
        place.plot(deviations, gain, style, label=name)
    for limit, text in limits.items():
        place.axhline(limit, color=GREY, linestyle=":", linewidth=1, zorder=0)
        place.annotate(text, (deviations[0], limit), (0, 3), textcoords="offset points", fontsize=9, color=INK)
    place.set(xlabel="standard deviation before the ReLU", ylabel="sum of responses /\nsum of activations")
    place.set(xscale="log", ylim=(0, 1.15 * max(limits)))
    place.legend(loc="lower left")
    return figure


@in_style
def bumps(a: np.ndarray, panels: dict[str, dict[str, np.ndarray]], peaks: dict[str, list]) -> Figure:
    """Responses of one unit by its activation; dots, the highest points.

    panels: for each title lines by name. peaks: for each title the highest points, (a, b).
    """
    figure, axes = new_figure(8.5, 2.6, 1, len(panels))
    for place, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for (name, b), style in zip(lines.items(), ("-", "--", ":"), strict=False):
            place.plot(a, b, style, label=name)
        for x, y in peaks[title]:
            place.plot(x, y, "o", color=INK, markersize=5, zorder=3)
        place.set(title=title, xlabel="activation a of the unit", ylabel="its response b", xlim=(0, a.max()))
        place.set_ylim(0)
        place.legend(fontsize=9)
    return figure


@in_style
def competition(picture: np.ndarray, place: tuple[int, int], window: int, left: np.ndarray, table, map_: int):
    """Left, a picture and what a channel keeps of it; right, all channels at one place: before, after, kept.

    picture: uint8 (S, S, 3), on which the kernel's window at the place (row, column) is drawn. left: what the marked
    map has kept everywhere, (S, S). table: as `responses.competition` gives it; a silent channel has nothing to keep.
    """
    figure, axes = new_figure(10.5, 4.4, 2, 2, width_ratios=[1, 3.4], height_ratios=[1.4, 1])
    corner = (place[1] - window / 2, place[0] - window / 2)
    axes[0, 0].imshow(picture)
    shown = axes[1, 0].imshow(100 * left, cmap="gray", vmin=0, vmax=100)
    figure.colorbar(shown, ax=axes[1, 0], label="kept (%)", shrink=0.9)
    for square, title in ((axes[0, 0], "the picture"), (axes[1, 0], f"what channel {map_} keeps")):
        square.set(title=title, xticks=[], yticks=[])
        square.spines[:].set_visible(True)
        frame(square, corner, window)
    above, below = axes[:, 1]
    above.bar(table.index, table["before"], width=0.9, color=PALE, edgecolor=GREY, linewidth=0.5, label="before")
    above.bar(table.index, table["after"], width=0.5, color=INK, label="after")
    above.set(ylabel="activation", title="all channels at the marked position", xlim=(-0.7, len(table) - 0.3))
    above.legend(ncols=2)
    active = table[table["before"] > 0]
    colours = [INK if i == map_ else GREY for i in active.index]
    below.bar(active.index, 100 * active["kept"], width=0.9, color=colours)
    below.set(xlabel="channel", ylabel="kept (%)", ylim=(0, 105), xlim=(-0.7, len(table) - 0.3))
    return figure


@in_style
def neighbours(a: np.ndarray, b: np.ndarray) -> Figure:
    """Left, the activations of channels at one position; right, what share each keeps after the normalisation."""
    figure, (places,) = new_figure(9, 2.7, 1, 2)
    places[0].bar(range(len(a)), a, color=PALE, edgecolor=GREY)
    places[1].bar(range(len(a)), 100 * b / a, color=INK)
    places[0].set(title="before: seven channels at one position", xlabel="channel", ylabel="activation")
    places[1].set(title="after: what each keeps of it", xlabel="channel", ylabel="kept (%)", ylim=0)
    for place, heights, form in ((places[0], a, "{:.0f}"), (places[1], 100 * b / a, "{:.0f} %")):
        for i, height in enumerate(heights):
            at = (i, height), (0, 2)
            place.annotate(form.format(height), *at, textcoords="offset points", ha="center", fontsize=9)
        place.margins(y=0.15)
    places[1].set_ylim(0, 115 * (b / a).max())
    return figure


@in_style
def brightness(contrasts: Sequence[float], grown: dict[str, np.ndarray], changed: dict[str, float]) -> Figure:
    """Left, the size of a layer's output by the contrast of the picture; right, its change when pixels are brighter."""
    figure, (places,) = new_figure(8.5, 2.6, 1, 2, width_ratios=[1.4, 1])
    for (name, size), style, colour in zip(grown.items(), ("-o", "--s", ":^"), (ACCENT, INK, GREY), strict=True):
        places[0].plot(contrasts, size, style, markersize=5, color=colour, label=name)
    places[0].set(xlabel="contrast of the picture (as it is = 1)", ylabel="size of the output\n(as it is = 1)")
    places[0].set(xscale="log", yscale="log", title="contrast scaled")
    places[0].minorticks_off()
    places[0].set_xticks(contrasts, [f"{c:g}" for c in contrasts])
    places[0].set_yticks(contrasts, [f"{c:g}" for c in contrasts])
    places[0].legend(fontsize=9)
    bars = places[1].barh(list(changed), [100 * share for share in changed.values()], color=(ACCENT, INK, GREY))
    places[1].bar_label(bars, fmt="%.0f %%", padding=3, fontsize=9)
    places[1].invert_yaxis()
    places[1].margins(x=0.2)
    places[1].set(title="40 grey levels added", xlabel="change of the output (%)")
    return figure


@in_style
def worth(saved: dict[str, Sequence[float]], intervals: dict[str, tuple[float, float]], paper: dict[str, float]):
    """Points of error that normalisation saves, by source; dots, means; bars, 95 % intervals; stars, the paper's.

    saved: points, a pair of runs each. intervals: (low, high), NaN for a single pair.
    """
    figure, place = new_figure(8, 0.46 * len(saved) + 0.9)
    words = {"ha": "center", "fontsize": 8, "textcoords": "offset points"}
    for row, (name, points) in enumerate(saved.items()):
        marks = [(np.mean(points), "o", 6, ACCENT, "mean, or a single pair", (0, 6), "bottom")]
        if name in paper:
            marks.append((paper[name], "*", 11, GREY, "the paper", (0, -6), "top"))
        for value, mark, size, colour, label, apart, side in marks:
            place.plot(value, row, mark, markersize=size, color=colour, label=label)
            place.annotate(f"{value:+.2f}".replace("-", "−"), (value, row), apart, va=side, **words)
        place.plot(intervals[name], [row, row], "-|", color=ACCENT, linewidth=1.5, label="95 % interval", zorder=1)
    place.axvline(0, color=GREY, linestyle=":", linewidth=1, zorder=0)
    name_rows(place, [f"{name} (n = {len(points)})" for name, points in saved.items()])
    place.set(xlabel="gain (points of top-1 error)", ylim=(len(saved) - 0.4, -0.8))
    known = dict(zip(*reversed(place.get_legend_handles_labels()), strict=True))
    figure.legend(known.values(), known, loc="outside right upper", fontsize=9)
    return figure


@in_style
def constants(row: np.ndarray, kept: dict[str, np.ndarray], a: np.ndarray, alone: dict[str, np.ndarray]) -> Figure:
    """Left, what share each of a row of activations keeps; right, what one gives alone, by its size."""
    figure, (places,) = new_figure(8, 2.5, 1, 2)
    for i, (name, style) in enumerate(zip(kept, ("-o", "--s"), strict=True)):
        places[0].plot(range(len(row)), 100 * kept[name], style, markersize=5, color=(GREY, ACCENT)[i], label=name)
        places[1].plot(a, alone[name], style[:-1], color=(GREY, ACCENT)[i], label=name)
    places[0].set_xticks(range(len(row)), [f"{x:g}" for x in row])
    places[0].set(title="seven channels at one position", xlabel="their activations", ylabel="kept (%)", ylim=0)
    places[1].set(title="one unit, its neighbours silent", xlabel="activation a of the unit", ylabel="its response b")
    places[1].set(xlim=(0, a.max()), ylim=0)
    places[1].legend(fontsize=9, loc="lower right")
    return figure


@in_style
def gains_by_epoch(curves, pairs: dict[str, tuple[str, str]]) -> Figure:
    """Points that a pair's second net errs less, by epoch, a panel a pair; bands, from the worst seed to the best.

    curves: as `lrn_records.lrn_curves` gives it, of one schedule. pairs: for each title the two nets.
    """
    figure, (places,) = new_figure(7, 2.1, 1, len(pairs), sharey=True)
    looks = {"test": ("test images", GREY, "--"), "train": ("training crops", ACCENT, "-")}
    for place, (title, (without, with_it)) in zip(places, pairs.items(), strict=True):
        for split, (words, colour, style) in looks.items():
            errors = 100 * curves.pivot(index=["epoch", "seed"], columns="net", values=split).astype(float)
            points = (errors[without] - errors[with_it]).unstack("seed").dropna(axis=1)
            place.plot(points.index, points.mean(axis=1), style, color=colour, label=words)
            band = points.min(axis=1), points.max(axis=1)
            place.fill_between(points.index, *band, color=colour, alpha=0.25, linewidth=0)
        place.axhline(0, color=GREY, linestyle=":", linewidth=1, zorder=0)
        place.set(title=title, xlabel="epoch", xlim=(1, curves["epoch"].max()))
    places[0].set_ylabel("gain (points of error)")
    figure.legend(*places[0].get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure
