"""The built-in picture collection: lit, patterned things on cluttered grounds, drawn by numpy from seeds.

A class is a silhouette (six families) with a surface (four), so a net must see both shape and texture; classes share
their colours, so colour alone doesn't tell. Behind the thing lies a ground of dead leaves (Lee, Mumford & Huang 2001,
"Occlusion models for natural images"): opaque shapes whose number falls as the inverse cube of their size cover one
another, which gives the edges and the 1/f² power spectrum of photographs. The committed JPEG files are the collection;
`python -m alexnet_lib.data.embedded FOLDER` draws them again.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import cos, sin, tau
from pathlib import Path

import numpy as np
from PIL import Image

from .. import cores
from ..commands import ends_well
from .embedded_shapes import LARGEST_SIDE, SILHOUETTES, SURFACES, Array, Draw, grain, rotate, soft_step, surface_mix

# label = 4 · family + surface; a prepared store sorts its folders by name, and so in another order
CLASSES = tuple(f"{surface} {family}" for family in SILHOUETTES for surface in SURFACES)
SMALLEST_SIDE = 16  # pixels; below it no surface can be recognised
COUNTS = {"train": 2016, "val": 600}  # of pictures, multiples of the number of classes
JPEG_QUALITY = 80
GREYSCALE = 0.04  # share of pictures without colour, as among photographs
# smallest and largest half-extent of a thing relative to half the shorter side, largest offset relative to that side
PLACING, PLACING_SMALL = (0.75, 1.03, 0.135), (0.72, 1.02, 0.16)

# Colours are (hue, saturation, value) in 0..1, red at hue 0. Every pair serves three to five classes of different
# families, and one thing in ten wears a pair drawn at random.
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
# of grounds: mean hue, its standard deviation, least and greatest saturation
FOLIAGE, MOSS, WATER = (0.27, 0.05, 0.20, 0.60), (0.22, 0.05, 0.15, 0.50), (0.56, 0.05, 0.12, 0.50)
EARTH, AUTUMN, STONE = (0.09, 0.03, 0.10, 0.45), (0.08, 0.04, 0.25, 0.70), (0.60, 0.06, 0.05, 0.30)
DUSK, GRAVEL, LAGOON = (0.72, 0.06, 0.08, 0.30), (0.10, 0.20, 0.03, 0.20), (0.45, 0.06, 0.12, 0.45)
BRICK = (0.03, 0.04, 0.15, 0.50)
THEMES = (FOLIAGE, MOSS, WATER, EARTH, AUTUMN, STONE, DUSK, GRAVEL, LAGOON, BRICK)


def hsv(hue: Array | float, saturation: Array | float, value: Array | float) -> Array:
    """RGB (..., 3) in 0..1 from hue (taken modulo 1), saturation and value (both clipped to 0..1)."""
    hue, saturation, value = (np.asarray(v, np.float32)[..., None] for v in (hue, saturation, value))
    saturation, value = np.clip(saturation, 0, 1), np.clip(value, 0, 1)
    sector = (np.array([5, 3, 1], np.float32) + hue % 1 * 6) % 6
    return value * (1 - saturation * np.clip(np.minimum(sector, 4 - sector), 0, 1))


def blur(image: Array, radius: int) -> Array:
    """Box blur, twice along each of axes 1 and 2 (height, width); two boxes are nearly a bell curve."""
    for axis in (1, 2, 1, 2):
        padding = [(0, 0)] * image.ndim
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(image, padding, mode="edge"), axis=axis, dtype=np.float32)
        ahead, behind = np.arange(image.shape[axis]) + 2 * radius + 1, np.arange(image.shape[axis])
        image = (np.take(total, ahead, axis) - np.take(total, behind, axis)) / (2 * radius + 1)
    return image


# ---- Grounds


def draw_palette(rng: np.random.Generator) -> tuple[float, ...]:
    """What the colours of one ground have in common: a theme, the darkest and the lightest value."""
    darkest, theme = rng.uniform(0.1, 0.45), THEMES[rng.integers(len(THEMES))]
    return *theme, darkest, darkest + rng.uniform(0.25, 0.5)


def colours_of(palette: tuple[float, ...], rng: np.random.Generator, count: int) -> Array:
    """RGB (count, 3); one in ten is of any hue."""
    hue, hue_sd, least, greatest, darkest, lightest = palette
    stray = rng.random(count) < 0.1
    hues = np.where(stray, rng.random(count), hue + hue_sd * rng.standard_normal(count))
    saturations = np.where(stray, rng.uniform(0.1, 0.6, count), rng.uniform(least, greatest, count))
    return hsv(hues, saturations, rng.uniform(darkest, lightest, count))


OUTLINES = {  # 0 in the centre, 1 on the outline, from coordinates in units of the half axes
    "ellipse": lambda along, across: np.sqrt(along**2 + across**2),
    "square": lambda along, across: np.sqrt(np.sqrt(along**4 + across**4)) * 1.1,
    "leaf": lambda along, across: np.maximum(np.abs(across) + 0.9 * along**2, np.abs(along)),
}


def lay(rng, image: Array, outline: str, place: tuple, radius, aspect, angle, colour: Array, light: tuple, edge=1.0):
    """Lay a shape onto `image` (H, W, 3), in place: a shadow around it, then the lit shape. Lengths are in pixels."""
    margin = 1.25 * radius + 1  # the shadow ends a quarter outside the outline
    top, left = max(0, int(place[1] - margin)), max(0, int(place[0] - margin))
    window = image[top : max(0, int(place[1] + margin) + 1), left : max(0, int(place[0] + margin) + 1)]
    height, width = window.shape[:2]
    if not height or not width:
        return
    x = (np.arange(left, left + width, dtype=np.float32)[None, :] - place[0]) / radius
    y = (np.arange(top, top + height, dtype=np.float32)[:, None] - place[1]) / radius
    along, across = rotate(x, y, angle)
    reach = OUTLINES[outline](along, across / aspect)
    cover = np.clip((1 - reach) * radius * aspect / edge + 0.5, 0, 1)[..., None]
    shade = 1 + x * light[0] + y * light[1] - 0.25 * np.clip(reach, 0, 1) ** 4
    shade = shade * (1 + rng.uniform(0.02, 0.15) * grain(rng, height, width))
    window *= 1 - 0.35 * np.clip(1.25 - reach, 0, 0.5)[..., None]
    window += cover * (colour * shade[..., None] - window)


def radii(rng: np.random.Generator, count: int, smallest: float, largest: float) -> Array:
    """Radii with density r^-3 between two bounds (by inverting the distribution), roughly the largest first.

    In random order, the few large shapes would hide most of the small ones; strictly by size, none ever would.
    """
    bounds = smallest**-2, largest**-2
    radius = (bounds[0] - rng.random(count) * (bounds[0] - bounds[1])) ** -0.5
    return radius[np.argsort(-radius * np.exp(0.9 * rng.standard_normal(count)))]


def dead_leaves(rng: np.random.Generator, height: int, width: int, side: float, large: int, small: int):
    """A ground (height, width, 3) of `large` + `small` shapes, and its palette; `side` is that of the picture."""
    palette, angle = draw_palette(rng), rng.uniform(0, tau)
    floor, *colours = colours_of(palette, rng, 1 + large + small)
    image = floor * (1 + 0.1 * grain(rng, height, width, kinds=3)[..., None])
    behind = rng.uniform(0.6, 1, large) * side / 2
    sizes = np.concatenate([behind, radii(rng, small, 0.03 * side, side / 2)]).tolist()
    for radius, colour in zip(sizes, colours, strict=True):
        place = rng.uniform(-radius / 2, width + radius / 2), rng.uniform(-radius / 2, height + radius / 2)
        outline = ("ellipse", "ellipse", "square", "leaf")[rng.integers(4)]
        aspect, turned, strength = rng.uniform(0.3, 1), rng.uniform(0, np.pi), rng.uniform(0.1, 0.45)
        lay(rng, image, outline, place, radius, aspect, turned, colour, (strength * cos(angle), strength * sin(angle)))
    return image, palette


# ---- The thing


def coordinates(draw: Draw, height: int, width: int, family: str, placing: tuple) -> tuple[Array, Array, Array]:
    """The thing's own coordinates x, y (N, height, width), and its half-extent in pixels (N, 1, 1).

    Offset and tilt make the classes hard for a linear classifier. Every second thing is mirrored.
    """
    smallest, largest, offset = placing
    side, (_, scale, tilt) = min(height, width), SILHOUETTES[family]
    extent = draw(smallest, largest) * side / 2 * scale
    offset_x = draw(-1, 1) * offset * side * (1.3 if width > height else 1)
    offset_y = draw(-1, 1) * offset * side * (1.3 if height > width else 1)
    right = np.arange(width, dtype=np.float32)[None, None, :] - (width - 1) / 2 - offset_x
    up = (height - 1) / 2 - np.arange(height, dtype=np.float32)[None, :, None] + offset_y
    along, across = rotate(right, up, draw(-1, 1) * tilt)
    stretch, mirror = np.exp(draw(-0.12, 0.12)), np.where(draw.chance(0.5), -1, 1).astype(np.float32)
    x, y = mirror * along / extent * stretch, across / extent / stretch
    return x + draw(-0.15, 0.15) * y, y, extent  # a little shear: the point of view


def pair_colours(rng: np.random.Generator, family: str, surface: str, count: int) -> tuple[Array, Array]:
    """Two colours (count, 1, 1, 3) a thing: its class's usual pair or any other, varied, in either order."""
    names = list(PAIRS)
    usual = names.index(USUAL_PAIRS[family][list(SURFACES).index(surface)])
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


def thing(rng, count: int, height: int, width: int, family: str, surface: str, placing: tuple) -> tuple[Array, Array]:
    """Colours (N, H, W, 3) and cover (N, H, W), 0 outside and 1 inside, of `count` things of one class."""
    draw = Draw(rng, count)
    x, y, extent = coordinates(draw, height, width, family, placing)
    field, details = SILHOUETTES[family][0](x, y, draw)
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


# ---- The scene, its light and the camera


def drop_shadow(rng: np.random.Generator, cover: Array) -> Array:
    """How dark (N, H, W) the thing's shadow makes the ground: its cover shifted down and aside, blurred."""
    count, height, width = cover.shape
    side = min(height, width)
    down, aside = max(1, round(0.045 * side)), max(1, round(0.03 * side))
    start = rng.choice([0, 2 * aside])
    shifted = np.pad(cover, ((0, 0), (down, 0), (aside, aside)))[:, :height, start : start + width]
    return Draw(rng, count)(0.25, 0.65) * blur(shifted, max(1, int(0.035 * side)))


def lay_leaf_in_front(rng: np.random.Generator, image: Array, palette: tuple) -> None:
    """Lay a leaf at the border of `image` (H, W, 3), in place, where it may hide a part of the thing."""
    height, width, _ = image.shape
    side, bearing, angle = min(height, width), rng.uniform(0, tau), rng.uniform(0, np.pi)
    distance, radius = side * rng.uniform(0.48, 0.64), side * rng.uniform(0.16, 0.34)
    place = width / 2 + distance * cos(bearing), height / 2 + distance * sin(bearing)
    aspect, colour = rng.uniform(0.25, 0.6), colours_of(palette, rng, 1)[0]
    lay(rng, image, "leaf", place, radius, aspect, angle, colour, (0.3 * cos(angle), 0.3 * sin(angle)), edge=1.6)


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
    """What a camera makes of it, (N, H, W, 3) uint8: white balance, exposure, soft shoulder, gamma, noise."""
    draw = Draw(rng, len(image))
    image = image * draw.spread(0.09, channels=3) * draw.spread(0.16)
    image = image / (1 + 0.25 * np.maximum(image - 0.75, 0))
    image = np.clip(image, 0, 1) ** draw.spread(0.15)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + draw(0.004, 0.02)[..., None] * noise
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def compose(rng, ground: Array, palettes: list[tuple], label: int, placing: tuple, leaf_in_front: float) -> Array:
    """Pictures (N, H, W, 3) uint8 of class `label` on grounds (N, H, W, 3), each with its own palette."""
    surface, family = CLASSES[label].split()
    colour, cover = thing(rng, *ground.shape[:3], family, surface, placing)
    ground = ground * (1 - drop_shadow(rng, cover))[..., None]
    image = (ground + cover[..., None] * (colour - ground)).astype(np.float32)
    for one, palette in zip(image, palettes, strict=True):
        if rng.random() < leaf_in_front:
            lay_leaf_in_front(rng, one, palette)
    return photograph(rng, illuminate(rng, image))


def picture(seed, label: int, height: int, width: int) -> Array:
    """One picture (height, width, 3) uint8 of class `label`; `seed` is anything that `default_rng` takes."""
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"label is {label}; accepted are 0 to {len(CLASSES) - 1}, the indices of CLASSES")
    _check_sides(height=height, width=width)
    rng, side = np.random.default_rng(seed), min(height, width)
    ground, palette = dead_leaves(rng, height, width, side, large=14, small=rng.integers(50, 140))
    ground = ground[None]
    if rng.random() < 0.4:  # out of focus
        ground = blur(ground, 1 if side <= 110 else 2)
    return compose(rng, ground, [palette], label, PLACING, leaf_in_front=0.5)[0]


def small_pictures(seed, count: int, size: int = 32) -> tuple[Array, Array]:
    """Pictures (count, size, size, 3) uint8 and labels (count,) int64, shuffled, as even as `count` allows.

    Their grounds are windows of a few larger ones, which saves most of the time. Take training and validation pictures
    from two calls with different seeds: they have nothing in common.
    """
    if count < 1:
        raise ValueError(f"count is {count}; accepted are positive numbers of pictures")
    _check_sides(size=size)
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


def _check_sides(**sides: int) -> None:
    for name, side in sides.items():
        if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
            raise ValueError(f"{name} is {side}; accepted are {SMALLEST_SIDE} to {LARGEST_SIDE} pixels")


def window(rng: np.random.Generator, canvas: Array, size: int) -> Array:
    """A random (size, size, 3) window of a canvas, mirrored or transposed at random, its colours varied."""
    top, left = rng.integers(len(canvas) - size + 1, size=2)
    cut = canvas[top : top + size, left : left + size]
    cut = cut[:, ::-1] if rng.random() < 0.5 else cut
    cut = cut.transpose(1, 0, 2) if rng.random() < 0.5 else cut
    return cut * Draw(rng, 1).spread(0.1, channels=3)[0]


# ---- The collection of files


def plan(folder: Path | str) -> list[Path]:
    """The file of each picture of the collection, by its index: the training pictures first."""
    names = [name.replace(" ", "_") for name in CLASSES]
    places = [(split, i) for split, count in COUNTS.items() for i in range(count)]
    return [Path(folder) / split / names[i % len(names)] / f"{i // len(names):04d}.jpg" for split, i in places]


def write_picture(index: int, path: Path) -> None:
    """Draw picture `index` of the collection, and write it as JPEG."""
    rng = np.random.default_rng([7, index])
    shorter = 72 + 88 * rng.beta(1, 4)
    longer = shorter * min(np.exp(abs(rng.normal(0, 0.25))), 1.8)
    height, width = (shorter, longer) if rng.random() < 0.62 else (longer, shorter)
    mode = "L" if rng.random() < GREYSCALE else "RGB"
    pixels = picture([8, index], index % len(CLASSES), int(height), int(width))
    Image.fromarray(pixels).convert(mode).save(path, quality=JPEG_QUALITY, optimize=True)


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.data.embedded", description="Draw the collection.")
    parser.add_argument("folder", type=Path, help="for the pictures, in a folder for each class")
    given = parser.parse_args(arguments)
    with ends_well(parser, "the pictures that are drawn are kept"):
        paths = plan(given.folder)
        for parent in {path.parent for path in paths}:
            parent.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(cores()) as pool:
            list(pool.map(write_picture, range(len(paths)), paths, chunksize=8))


if __name__ == "__main__":
    main()
