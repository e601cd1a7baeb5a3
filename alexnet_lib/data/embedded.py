"""The built-in picture collection: lit, patterned things on cluttered grounds, drawn by numpy from seeds.

It lets every notebook run without a download. A class is a silhouette (six families) with a surface (four),
so a net must see both shape and texture; colours are shared between classes, so colour alone does not tell.
Behind the thing lies a dead-leaves ground (Lee, Mumford & Huang 2001, "Occlusion models for natural
images"): opaque shapes whose number falls as the inverse cube of their size cover one another, which gives
the edges and the 1/f^2 power spectrum of photographs. The committed JPEG files are the collection;
`python -m alexnet_lib.data.embedded FOLDER` draws them again.

`CLASSES` is ordered by family, then surface: label = 4 * family + surface. Folders sorted by name come in
another order, that of a prepared store.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import cos, sin
from pathlib import Path

import numpy as np
from PIL import Image

from .. import cores
from .embedded_shapes import (
    FAMILY_TABLE,
    LARGEST_SIDE,
    SURFACE_TABLE,
    TURN,
    Array,
    Draw,
    Palette,
    Shape,
    dead_leaves,
    grain,
    hsv,
    lay,
    rotate,
    soft_step,
    surface_mix,
)

Seed = int | Sequence[int]
FAMILIES = tuple(FAMILY_TABLE)
SURFACES = tuple(SURFACE_TABLE)
CLASSES = tuple(f"{surface} {family}" for family in FAMILIES for surface in SURFACES)
SMALLEST_SIDE = 16  # pixels; below it no surface can be told from another
JPEG_QUALITY = 80
GREYSCALE = 0.04  # share of pictures without colour, as photographs come

# Colours are (hue, saturation, value) in 0..1, red at hue 0. Every pair serves three to five classes of
# different families, and one thing in ten wears a pair drawn at random.
PAIRS = {
    "orange and cream": ((0.065, 0.85, 0.92), (0.100, 0.12, 0.97)),
    "yellow and black": ((0.135, 0.85, 0.95), (0.080, 0.35, 0.10)),
    "blue and white": ((0.585, 0.80, 0.80), (0.550, 0.10, 0.97)),
    "red and black": ((0.985, 0.85, 0.78), (0.950, 0.40, 0.10)),
    "green and lemon": ((0.300, 0.75, 0.62), (0.170, 0.65, 0.93)),
    "violet and pink": ((0.800, 0.65, 0.55), (0.900, 0.32, 0.96)),
}
USUAL_PAIRS = {  # one a surface, in the order of SURFACES
    "leaf": ("green and lemon", "orange and cream", "red and black", "yellow and black"),
    "fish": ("orange and cream", "blue and white", "yellow and black", "red and black"),
    "bird": ("blue and white", "yellow and black", "green and lemon", "violet and pink"),
    "butterfly": ("yellow and black", "violet and pink", "orange and cream", "blue and white"),
    "flower": ("violet and pink", "red and black", "blue and white", "orange and cream"),
    "jar": ("red and black", "green and lemon", "violet and pink", "blue and white"),
}
UNUSUAL_PAIR = 0.10

# ---- The scene: grounds come from embedded_shapes, the thing stands on them


@dataclass(frozen=True)
class Placing:
    """Half-extents relative to half the shorter side, and the largest offset relative to that side."""

    smallest: float
    largest: float
    offset: float


PLACING = Placing(0.75, 1.03, 0.135)
PLACING_SMALL = Placing(0.72, 1.02, 0.16)


def coordinates(draw: Draw, height: int, width: int, family: str, placing: Placing) -> tuple[Array, Array, Array]:
    """The thing's own coordinates x, y (N, height, width), and its half-extent in pixels (N, 1, 1).

    Offset and tilt are what makes the classes hard for a linear classifier. Every second thing is mirrored,
    so that a flipped picture is as likely as the picture itself.
    """
    side, kind = min(height, width), FAMILY_TABLE[family]
    extent = draw(placing.smallest, placing.largest) * side / 2 * kind.scale
    offset_x = draw(-1, 1) * placing.offset * side * (1.3 if width > height else 1)
    offset_y = draw(-1, 1) * placing.offset * side * (1.3 if height > width else 1)
    right = np.arange(width, dtype=np.float32)[None, None, :] - (width - 1) / 2 - offset_x
    up = (height - 1) / 2 - np.arange(height, dtype=np.float32)[None, :, None] + offset_y
    along, across = rotate(right, up, draw(-1, 1) * kind.tilt)
    stretch, mirror = np.exp(draw(-0.12, 0.12)), np.where(draw.chance(0.5), -1, 1).astype(np.float32)
    x, y = mirror * along / extent * stretch, across / extent / stretch
    return x + draw(-0.15, 0.15) * y, y, extent  # a little shear: the point of view


def pair_colours(rng: np.random.Generator, family: str, surface: str, count: int) -> tuple[Array, Array]:
    """Two colours (count, 1, 1, 3) a thing: its class's usual pair or any other, varied, in either order."""
    names = list(PAIRS)
    usual = names.index(USUAL_PAIRS[family][SURFACES.index(surface)])
    chosen = np.where(rng.random(count) < UNUSUAL_PAIR, rng.integers(len(names), size=count), usual)
    hue, saturation, value = np.moveaxis(np.array(list(PAIRS.values()))[chosen], -1, 0)  # each (count, 2)
    vary = partial(rng.standard_normal, (count, 2))
    colours = hsv(hue + 0.022 * vary(), saturation * np.exp(0.18 * vary()), value * np.exp(0.1 * vary()))
    swap = (rng.random(count) < 0.5)[:, None, None]
    first, second = np.moveaxis(np.where(swap, colours[:, ::-1], colours), 1, 0)
    return first[:, None, None], second[:, None, None]


def relief(field: Array, extent: Array, draw: Draw) -> Array:
    """Brightness (N, H, W) of a rounded body that rises from its outline as a square root, lit from above."""
    height = np.sqrt(np.clip(field / 0.32, 0, 1))
    rightward, downward = -np.gradient(height, axis=2), -np.gradient(height, axis=1)
    angle = draw.phase()
    facing = (rightward * np.cos(angle) - downward * np.abs(np.sin(angle))) * extent
    return 1 + np.clip(facing * draw(0.15, 0.4), -0.55, 0.5) - 0.25 * (1 - height)


def thing(
    rng: np.random.Generator, count: int, height: int, width: int, family: str, surface: str, placing: Placing
) -> tuple[Array, Array]:
    """Colours (N, H, W, 3) and cover (N, H, W), 0 outside and 1 inside, of `count` things of one class."""
    draw = Draw(rng, count)
    x, y, extent = coordinates(draw, height, width, family, placing)
    field, details = FAMILY_TABLE[family].silhouette(x, y, draw)
    slope = np.hypot(np.gradient(field, axis=1), np.gradient(field, axis=2))
    cover = np.clip(field / np.maximum(slope, 0.35 / extent) + 0.5, 0, 1)  # field / slope: distance in pixels
    first, second = pair_colours(rng, family, surface, count)
    second = first + (second - first) * draw(0.85, 1)[..., None]
    colour = first + (second - first) * surface_mix(surface, x, y, draw)[..., None]
    horn = hsv(draw(0.06, 0.15), 0.7, draw(0.35, 0.95))
    paints = {"white": np.float32([0.95, 0.95, 0.9]), "black": np.float32([0.06, 0.05, 0.05]), "horn": horn}
    for detail, paint in details:
        over = np.clip(detail * extent + 0.5, 0, 1)[..., None]
        colour = colour + over * (paints.get(paint, 0.55 * colour) - colour)
    texture = np.stack([grain(rng, height, width, kinds=9) for _ in range(count)])
    shade = relief(field, extent, draw) * (1 + draw(0.02, 0.08) * texture)
    return colour * shade[..., None], cover


def drop_shadow(rng: np.random.Generator, cover: Array) -> Array:
    """How dark (N, H, W) the thing's shadow makes the ground: its cover shifted down and aside, blurred."""
    count, height, width = cover.shape
    side = min(height, width)
    down, aside = max(1, round(0.045 * side)), max(1, round(0.03 * side))
    start = rng.choice([0, 2 * aside])
    shifted = np.pad(cover, ((0, 0), (down, 0), (aside, aside)))[:, :height, start : start + width]
    return Draw(rng, count)(0.25, 0.65) * blur(shifted, max(1, int(0.035 * side)))


def blur(image: Array, radius: int) -> Array:
    """Box blur, twice along each of axes 1 and 2 (height, width); twice a box is nearly a bell."""
    for axis in (1, 2, 1, 2):
        padding = [(0, 0)] * image.ndim
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(image, padding, mode="edge"), axis=axis, dtype=np.float32)
        ahead, behind = np.arange(image.shape[axis]) + 2 * radius + 1, np.arange(image.shape[axis])
        image = (np.take(total, ahead, axis) - np.take(total, behind, axis)) / (2 * radius + 1)
    return image


def lay_leaf_in_front(rng: np.random.Generator, image: Array, palette: Palette) -> None:
    """Lay a leaf at the border of `image` (H, W, 3), in place, where it may hide a part of the thing."""
    height, width, _ = image.shape
    side, bearing, angle = min(height, width), rng.uniform(0, TURN), rng.uniform(0, np.pi)
    distance, radius = side * rng.uniform(0.48, 0.64), side * rng.uniform(0.16, 0.34)
    x, y = width / 2 + distance * cos(bearing), height / 2 + distance * sin(bearing)
    shape = Shape(x, y, radius, rng.uniform(0.25, 0.6), angle, "leaf", blur=1.6)
    lay(image, shape, palette.colours(rng, 1)[0], (0.3 * cos(angle), 0.3 * sin(angle)), rng)


# ---- Light and camera


def illuminate(rng: np.random.Generator, image: Array) -> Array:
    """Light on the scene (N, H, W, 3): a slope and, in four of ten, a cast shadow with a wavy edge."""
    count, height, width, _ = image.shape
    draw = Draw(rng, count)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[None, :, None]
    light = 1 + draw(0, 0.35) * rotate(x, y, draw.phase())[0]
    across, along = rotate(x, y, draw.phase())
    edge = soft_step((across + 0.25 * np.sin(draw(1, 4) * along) - draw(-0.5, 0.9)) * draw(4, 25))
    light = light * (1 - np.where(draw.chance(0.4), draw(0.2, 0.5), 0) * edge)
    return image * light[..., None]


def photograph(rng: np.random.Generator, image: Array) -> Array:
    """The picture (N, H, W, 3) uint8 a camera takes: white balance, exposure, soft shoulder, gamma, noise."""
    draw = Draw(rng, len(image))
    image = image * draw.spread(0.09, channels=3) * draw.spread(0.16)
    image = image / (1 + 0.25 * np.maximum(image - 0.75, 0))
    image = np.clip(image, 0, 1) ** draw.spread(0.15)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + draw(0.004, 0.02)[..., None] * noise
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def compose(
    rng: np.random.Generator,
    ground: Array,
    palettes: list[Palette],
    label: int,
    placing: Placing,
    leaf_in_front: float,
) -> Array:
    """Pictures (N, H, W, 3) uint8 of class `label` on grounds (N, H, W, 3), each with its own palette."""
    family, surface = FAMILIES[label // len(SURFACES)], SURFACES[label % len(SURFACES)]
    colour, cover = thing(rng, *ground.shape[:3], family, surface, placing)
    ground = ground * (1 - drop_shadow(rng, cover))[..., None]
    image = (ground + cover[..., None] * (colour - ground)).astype(np.float32)
    for one, palette in zip(image, palettes, strict=True):
        if rng.random() < leaf_in_front:
            lay_leaf_in_front(rng, one, palette)
    return photograph(rng, illuminate(rng, image))


# ---- Pictures


def check_side(name: str, side: int) -> None:
    if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
        raise ValueError(f"{name} is {side}; accepted are {SMALLEST_SIDE} to {LARGEST_SIDE} pixels")


def picture(seed: Seed, label: int, height: int, width: int) -> Array:
    """One picture (height, width, 3) uint8 of class `label`; `seed` is anything that `default_rng` takes."""
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"label is {label}; accepted are 0 to {len(CLASSES) - 1}, the indices of CLASSES")
    check_side("height", height)
    check_side("width", width)
    rng, side = np.random.default_rng(seed), min(height, width)
    ground, palette = dead_leaves(rng, height, width, side, large=14, small=rng.integers(50, 140))
    ground = ground[None]
    if rng.random() < 0.4:  # out of focus
        ground = blur(ground, 1 if side <= 110 else 2)
    return compose(rng, ground, [palette], label, PLACING, leaf_in_front=0.5)[0]


def small_pictures(seed: Seed, count: int, size: int = 32) -> tuple[Array, Array]:
    """Pictures (count, size, size, 3) uint8 and labels (count,) int64, shuffled, as even as `count` allows.

    Their grounds are windows of a few larger ones, which saves most of the time. Two calls with different
    seeds have nothing in common, so take training and validation pictures from two calls.
    """
    if count < 1:
        raise ValueError(f"count is {count}; accepted are positive numbers of pictures")
    check_side("size", size)
    rng, canvas = np.random.default_rng(seed), min(5 * size, LARGEST_SIDE)
    pool = min(24, 2 + count // 100)
    grounds = [dead_leaves(rng, canvas, canvas, size, large=120, small=1500) for _ in range(pool)]
    labels = rng.permutation(np.arange(count) % len(CLASSES))
    images = np.empty((count, size, size, 3), np.uint8)
    for label in range(min(count, len(CLASSES))):
        members = np.flatnonzero(labels == label)
        chosen = rng.integers(len(grounds), size=len(members))
        windows = np.stack([window(rng, grounds[i][0], size) for i in chosen])
        palettes = [grounds[i][1] for i in chosen]
        images[members] = compose(rng, windows, palettes, label, PLACING_SMALL, leaf_in_front=0.3)
    return images, labels


def window(rng: np.random.Generator, canvas: Array, size: int) -> Array:
    """A random (size, size, 3) window of a canvas, mirrored or transposed at random, its colours varied."""
    top, left = rng.integers(len(canvas) - size + 1, size=2)
    cut = canvas[top : top + size, left : left + size]
    cut = cut[:, ::-1] if rng.random() < 0.5 else cut
    cut = cut.transpose(1, 0, 2) if rng.random() < 0.5 else cut
    return cut * Draw(rng, 1).spread(0.1, channels=3)[0]


# ---- The collection of files


@dataclass(frozen=True)
class Planned:
    """Image `index` of the collection and the file it goes to; all about the image follows from its index."""

    index: int
    path: Path

    @property
    def label(self) -> int:
        return self.index % len(CLASSES)

    def size_and_mode(self) -> tuple[int, int, str]:
        """Height, width (pixels) and the mode, RGB or L: sizes and shapes vary as photographs' do."""
        rng = np.random.default_rng([7, self.index])
        shorter = 72 + 88 * rng.beta(1, 4)
        longer = shorter * min(np.exp(abs(rng.normal(0, 0.25))), 1.8)
        height, width = (shorter, longer) if rng.random() < 0.62 else (longer, shorter)
        return int(height), int(width), "L" if rng.random() < GREYSCALE else "RGB"

    def draw(self) -> Image.Image:
        """The image as it is before it becomes a JPEG file."""
        height, width, mode = self.size_and_mode()
        return Image.fromarray(picture([8, self.index], self.label, height, width)).convert(mode)

    def write(self) -> int:
        """Write the JPEG file and return its length in bytes."""
        self.draw().save(self.path, quality=JPEG_QUALITY, optimize=True)
        return self.path.stat().st_size


def plan(folder: Path | str, train: int = 2016, val: int = 600) -> list[Planned]:
    """All images of a collection: indices 0 .. train - 1 in `train`, the `val` that follow them in `val`."""
    for name, count in (("train", train), ("val", val)):
        if count < 0 or count % len(CLASSES):
            raise ValueError(f"{name} is {count}; accepted are multiples of {len(CLASSES)}, the number of classes")
    planned = []
    for part, first, count in (("train", 0, train), ("val", train, val)):
        for i in range(count):
            name = CLASSES[(first + i) % len(CLASSES)].replace(" ", "_")
            path = Path(folder) / part / name / f"{i // len(CLASSES):04d}.jpg"
            planned.append(Planned(first + i, path))
    return planned


def write_collection(folder: Path | str, train: int = 2016, val: int = 600, workers: int | None = None) -> int:
    """Write `folder/train/<class>/<number>.jpg` and `folder/val/...`, balanced, and return the bytes written.

    `workers` processes share the work (None: one a core); the files do not depend on their number.
    """
    workers = cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers is {workers}; accepted are positive numbers of processes, or None for one a core")
    planned = plan(folder, train, val)
    for parent in {one.path.parent for one in planned}:
        parent.mkdir(parents=True, exist_ok=True)
    if workers == 1:
        return sum(map(Planned.write, planned))
    with ProcessPoolExecutor(workers) as pool:
        return sum(pool.map(Planned.write, planned, chunksize=8))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the built-in picture collection.")
    parser.add_argument("folder", type=Path, help="where train/ and val/ go; files of the same names are replaced")
    parser.add_argument("--train", type=int, default=2016, help="training pictures (%(default)s)")
    parser.add_argument("--val", type=int, default=600, help="validation pictures (%(default)s)")
    parser.add_argument("--workers", type=int, help="processes (one a core)")
    options = parser.parse_args()
    size = write_collection(options.folder, options.train, options.val, options.workers)
    count = options.train + options.val
    print(f"{count} pictures of {len(CLASSES)} classes, {size:,} bytes, in {options.folder}")


if __name__ == "__main__":
    main()
