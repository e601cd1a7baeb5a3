"""Shapes of the built-in picture collection: silhouettes, the surfaces painted on them, and the grounds.

A silhouette is an implicit function: a field (N, H, W) that is positive inside the thing, zero on its
outline and negative outside, in units of the thing's half-extent. A union of parts is a maximum of their
fields, a cut a minimum. x points right and y up, both (N, H, W) or broadcastable to it, and the thing fills
about -1..1. Proportions are drawn anew for every picture, so a class is a kind of thing and not one
drawing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import cos, sin

import numpy as np

Array = np.ndarray
Details = list[tuple[Array, str]]  # a field, positive where the detail lies, and the name of its paint
TURN = 2 * np.pi
NOWHERE = -1.0  # a field value well outside everything
LARGEST_SIDE = 512  # pixels: the side of the grain's tiles, so of the largest picture


@dataclass(frozen=True)
class Draw:
    """Random numbers, one a picture: float32 of shape (count, 1, 1), to broadcast over fields (N, H, W)."""

    rng: np.random.Generator
    count: int

    def __call__(self, low: float, high: float) -> Array:
        return self.rng.uniform(low, high, (self.count, 1, 1)).astype(np.float32)

    def spread(self, sd: float, channels: int = 1) -> Array:
        """Factors around 1, exp of a normal number: (count, 1, 1, channels), for pictures (N, H, W, 3)."""
        return np.exp(sd * self.rng.standard_normal((self.count, 1, 1, channels))).astype(np.float32)

    def phase(self) -> Array:
        """An angle, radians."""
        return self(0, TURN)

    def chance(self, probability: float) -> Array:
        """True with this probability, of shape (count, 1, 1)."""
        return self.rng.random((self.count, 1, 1)) < probability


def rotate(x: Array, y: Array, angle: Array | float) -> tuple[Array, Array]:
    """Coordinates of the points (x, y) on axes turned anticlockwise by `angle` (radians)."""
    angle = np.float32(angle)  # or numpy's float64 scalars would turn float32 fields into float64
    cosine, sine = np.cos(angle), np.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine


def ellipse(x: Array, y: Array, centre: tuple, half_axes: tuple, angle: Array | float = 0.0) -> Array:
    """Field of an ellipse; near the outline it is close to the distance inside it."""
    along, across = rotate(x - centre[0], y - centre[1], angle)
    a, b = half_axes
    return (1 - np.sqrt((along / a) ** 2 + (across / b) ** 2)) * np.minimum(a, b, dtype=np.float32)


def stroke(x: Array, y: Array, start: tuple, end: tuple, half_width: Array | float) -> Array:
    """Field of a straight line with round ends: the half width less the distance to the segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    x, y = x - start[0], y - start[1]
    nearest = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
    return half_width - np.hypot(x - nearest * dx, y - nearest * dy)


def union(*fields: Array) -> Array:
    return np.maximum.reduce(np.broadcast_arrays(*fields))


def bump(z: Array, width: Array | float) -> Array:
    """A bell of height 1."""
    return np.exp(-((z / width) ** 2))


def leaf(x: Array, y: Array, draw: Draw) -> tuple[Array, Details]:
    """A blade that tapers as (1 + x)^a (1 - x)^b, serrated by a wave, with a stalk and a midrib."""
    y = y - draw(-0.3, 0.3) * (x * x - 0.3)  # the whole leaf is bent
    base, tip, half_width, teeth = draw(0.55, 0.95), draw(0.8, 1.4), draw(0.36, 0.56), draw(6, 11)
    widest = (base - tip) / (base + tip)
    along = np.clip(x, -1, 1)
    taper = (1 + along) ** base * (1 - along) ** tip / ((1 + widest) ** base * (1 - widest) ** tip)
    depth = draw(-0.12, 0.16).clip(0)  # four leaves in ten have a smooth margin
    serration = 1 + depth * np.sin(TURN / 2 * teeth * along + 6 * np.abs(y))
    blade = np.minimum(half_width * taper * serration - np.abs(y), 1 - np.abs(x))
    stalk = stroke(x, y, (-0.95, 0), (-1.35, draw(-0.15, 0.15)), 0.035)
    return union(blade, stalk), [(stroke(x, y, (-0.9, 0), (0.8, 0), 0.028), "darker")]


def fish(x: Array, y: Array, draw: Draw) -> tuple[Array, Details]:
    """An oval that swims to the right: forked tail, a fin above and one below, a round eye."""
    height = draw(0.34, 0.52)
    body = (1 - np.sqrt((x / 0.8) ** 2 + (y / (height * (1 - 0.22 * x.clip(-1, 0) ** 2))) ** 2)) * height
    spread, fork, behind = draw(0.3, 0.46), draw(0, 0.3), -x - 0.58
    wedge = np.minimum(spread * behind / 0.5 + 0.05 - np.abs(y), behind)
    tail = np.minimum(wedge, 1.12 - fork + fork * np.abs(y) / spread + x)
    back_fin = ellipse(x, y, (draw(-0.15, 0.15), height * 0.9), (draw(0.25, 0.42), draw(0.14, 0.24)), 0.25)
    belly_fin = ellipse(x, y, (-0.1, -height * 0.92), (0.2, draw(0.1, 0.17)), -0.4)
    eye, pupil = (ellipse(x, y, (0.5, height / 4), (radius, radius)) for radius in (0.085, 0.05))
    return union(body, tail, back_fin, belly_fin), [(eye, "white"), (pupil, "black")]


def bird(x: Array, y: Array, draw: Draw) -> tuple[Array, Details]:
    """A bird that looks to the right: an oval body on two legs, round head, beak, tail, a folded wing."""
    lean, slope = draw(0.15, 0.6), draw(0.25, 0.7)  # of the body and of the tail, radians
    ahead, above = np.cos(lean), np.sin(lean)
    body = ellipse(x, y, (0, -0.05), (0.6, draw(0.3, 0.4)), lean)
    head_x, head_y, head_radius = 0.5 * ahead + 0.05, 0.5 * above + 0.12, draw(0.2, 0.26)
    head = head_radius - np.hypot(x - head_x, y - head_y)
    forward = x - head_x - head_radius * 0.8
    beak = np.minimum(0.085 * (1 - forward / draw(0.2, 0.42)) - np.abs(y - head_y - 0.02), forward + 0.05)
    rump = -0.42 * ahead, -0.42 * above - 0.05
    tail_end = -0.5 - 0.55 * np.cos(slope), -0.22 - 0.55 * np.sin(slope)
    tail = stroke(x, y, rump, tail_end, draw(0.08, 0.13))
    left_leg = stroke(x, y, (-0.04, -0.3), (draw(-0.06, 0.02), -0.82), 0.025)
    legs = union(left_leg, stroke(x, y, (0.14, -0.3), (draw(0.1, 0.2), -0.82), 0.025))
    wing = 0.02 - np.abs(ellipse(x, y, (-0.12, -0.02), (0.42, 0.2), lean + 0.15))
    eye = ellipse(x, y, (head_x + 0.06, head_y + 0.05), (0.05, 0.05))
    bare_legs = np.minimum(legs, -union(body, tail))
    details = [(beak, "horn"), (bare_legs, "horn"), (wing, "darker"), (eye, "black")]
    return union(body, head, beak, tail, legs), details


def butterfly(x: Array, y: Array, draw: Draw) -> tuple[Array, Details]:
    """Two pairs of oval wings, mirror images of each other, with a black body and feelers."""
    side, lift = np.abs(x / draw(0.72, 1)), draw(-0.08, 0.08)
    upper = ellipse(side, y, (0.5, 0.36 + lift), (0.56, draw(0.3, 0.4)), draw(0.45, 0.8))
    lower = ellipse(side, y, (0.4, -0.38 + lift), (0.44, draw(0.26, 0.34)), -draw(0.5, 0.9))
    body = ellipse(x, y, (0, 0), (0.075, 0.52))
    feelers = stroke(side, y, (0.02, 0.45), (0.22, draw(0.8, 0.95)), 0.018)
    return union(upper, lower, body, feelers), [(union(body, feelers), "black")]


def flower(x: Array, y: Array, draw: Draw) -> tuple[Array, Details]:
    """A rosette of five to eight petals around a disc, seen from above."""
    petals, inner, bluntness = np.round(draw(4.6, 8.4)), draw(0.3, 0.5), draw(0.35, 0.8)
    radius, lobe = np.hypot(x, y), np.abs(np.cos(petals * np.arctan2(y, x) / 2))
    outline = inner + (1 - inner) * lobe**bluntness
    between_petals = (0.02 - lobe) * 0.4 * (radius > 0.2)
    return (outline - radius) * 0.6, [(between_petals, "darker"), (draw(0.17, 0.28) - radius, "horn")]


def jar(x: Array, y: Array, draw: Draw) -> tuple[Array, Details]:
    """A thrown pot: a belly, a lip and a foot around an axis, every second one with a pair of handles."""
    belly_at, belly, neck = draw(-0.35, 0.2), draw(0.24, 0.42), draw(0.22, 0.36)
    half_width = neck + belly * bump(y - belly_at, draw(0.3, 0.5))
    half_width = half_width + 0.12 * bump(y - 0.95, 0.13) + 0.06 * bump(y + 0.95, 0.12)
    pot = np.minimum(half_width - np.abs(x), 0.96 - np.abs(y))
    ring = np.hypot((np.abs(x) - draw(0.42, 0.6)) / 0.8, y - belly_at - 0.25) - 0.28
    handles = np.where(draw.chance(0.5), 0.07 - np.abs(ring), NOWHERE)
    groove = np.where(np.abs(x) > half_width, NOWHERE, 0.025 - np.abs(y - 0.84))
    return union(pot, handles), [(groove, "darker")]


@dataclass(frozen=True)
class Family:
    """A kind of thing: its silhouette, its size relative to the others and its tilt at most (radians)."""

    silhouette: Callable[[Array, Array, Draw], tuple[Array, Details]]
    scale: float
    tilt: float


FAMILY_TABLE = {
    "leaf": Family(leaf, scale=0.98, tilt=0.70),
    "fish": Family(fish, scale=0.98, tilt=0.33),
    "bird": Family(bird, scale=1.02, tilt=0.27),
    "butterfly": Family(butterfly, scale=1.00, tilt=0.40),
    "flower": Family(flower, scale=0.88, tilt=np.pi),
    "jar": Family(jar, scale=0.98, tilt=0.22),
}


# A surface is a function of the thing's own coordinates, of the waves' frequency (radians a half-extent)
# and of the draw. It returns a field whose sign chooses between the two colours of a pair.


def striped(x: Array, y: Array, frequency: Array, draw: Draw) -> Array:
    """Stripes across the thing's length, one colour a little wider than the other."""
    return np.sin(frequency * x + draw.phase()) + draw(-0.3, 0.3)


def spotted(x: Array, y: Array, frequency: Array, draw: Draw) -> Array:
    """Spots on a hexagonal lattice, where three waves at 120 degrees have their crests in common."""
    first, second = draw.phase(), draw.phase()
    phases = (first, second, -first - second)  # that add to nothing, or the crests would not meet
    waves = 0.0
    for i, phase in enumerate(phases):
        waves = waves + np.cos(1.1 * frequency * rotate(x, y, i * TURN / 3)[0] + phase)
    return 0.8 * (waves - draw(0.5, 0.9))


def chequered(x: Array, y: Array, frequency: Array, draw: Draw) -> Array:
    """Lozenges, as a harlequin wears them: squares that stand on a corner."""
    u, v = rotate(x, y, np.pi / 4)
    return 1.7 * np.sin(0.8 * frequency * u + draw.phase()) * np.sin(0.8 * frequency * v + draw.phase())


def marbled(x: Array, y: Array, frequency: Array, draw: Draw) -> Array:
    """Large flakes without a direction: five waves all round, two to four times as long as usual."""
    waves = 0.0
    for i in range(5):
        along, _ = rotate(x, y, (i + draw(-0.4, 0.4)) * np.pi / 5)
        waves = waves + np.cos(frequency * draw(0.28, 0.46) * along + draw.phase())
    return 1.1 * waves + draw(-0.2, 0.2)


SURFACE_TABLE = {"striped": striped, "spotted": spotted, "chequered": chequered, "marbled": marbled}


def soft_step(z: Array) -> Array:
    """The logistic function, from 0 to 1; its argument is bounded because float32's exp overflows at 88."""
    return 1 / (1 + np.exp(-np.clip(z, -30, 30)))


def surface_mix(name: str, x: Array, y: Array, draw: Draw) -> Array:
    """(N, H, W) in 0..1: how much of the pair's second colour the surface `name` shows at each point.

    One period is .40 to .56 of the half-extent: 10 to 15 pixels where the picture is 64 pixels wide, about
    the width of one 11x11 kernel of the first layer. The pattern lies within .3 radians of the thing's
    axes, to either side, so a mirror image belongs to the same class.
    """
    frequency, angle = TURN / draw(0.40, 0.56), draw(-0.3, 0.3)
    warp, wave, phase = draw(0, 0.05), draw(2, 6), draw.phase()
    x, y = x + warp * np.sin(wave * y + phase), y + warp * np.sin(wave * x + 1.7 * phase)
    u, v = rotate(x, y, angle)
    return soft_step(SURFACE_TABLE[name](u, v, frequency, draw) * draw(5, 10))


# ---- Ground

THEMES = {  # of a ground: mean hue, its standard deviation, least and greatest saturation
    "foliage": (0.27, 0.05, 0.20, 0.60),
    "moss": (0.22, 0.05, 0.15, 0.50),
    "water": (0.56, 0.05, 0.12, 0.50),
    "earth": (0.09, 0.03, 0.10, 0.45),
    "autumn": (0.08, 0.04, 0.25, 0.70),
    "stone": (0.60, 0.06, 0.05, 0.30),
    "dusk": (0.72, 0.06, 0.08, 0.30),
    "gravel": (0.10, 0.20, 0.03, 0.20),
    "lagoon": (0.45, 0.06, 0.12, 0.45),
    "brick": (0.03, 0.04, 0.15, 0.50),
}


def hsv(hue: Array | float, saturation: Array | float, value: Array | float) -> Array:
    """RGB (..., 3) in 0..1 from hue (taken modulo 1), saturation and value (both clipped to 0..1)."""
    hue, saturation, value = (np.asarray(v, np.float32)[..., None] for v in (hue, saturation, value))
    saturation, value = np.clip(saturation, 0, 1), np.clip(value, 0, 1)
    sector = (np.array([5, 3, 1], np.float32) + hue % 1 * 6) % 6
    return value * (1 - saturation * np.clip(np.minimum(sector, 4 - sector), 0, 1))


def fractal_noise(rng: np.random.Generator, slope: float, stretch: float = 1.0, angle: float = 0.0) -> Array:
    """Noise (512, 512) of amplitude 1/f^slope, mean 0 and sd 1; stretch < 1 draws it out like wood."""
    frequency = np.fft.fftfreq(LARGEST_SIDE)
    along, across = rotate(frequency[None, :], frequency[:, None], angle)
    distance = np.hypot(along, across * stretch)
    distance[0, 0] = 1
    white = rng.standard_normal((LARGEST_SIDE, LARGEST_SIDE))
    noise = np.fft.ifft2(np.fft.fft2(white) * distance**-slope).real
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


@cache
def grain_tiles() -> Array:
    """Seventeen textures (17, 512, 512) of sd about 1: three clouds, six woods, six ripples, two of dots."""
    rng = np.random.default_rng(11)
    angles = np.arange(6) * np.pi / 6
    clouds = [fractal_noise(rng, slope) for slope in (0.8, 1.2, 1.6)]
    woods = [fractal_noise(rng, 1.1, stretch=0.12, angle=angle) for angle in angles]
    y, x = np.mgrid[:LARGEST_SIDE, :LARGEST_SIDE].astype(np.float32)
    ripples = [
        1.2 * np.sin(TURN / rng.uniform(5, 14) * rotate(x, y, angle)[0] + 1.2 * clouds[2]) for angle in angles + 0.2
    ]
    rows = [np.cos(TURN / period * x + clouds[2]) for period in (7, 11)]
    slanted_rows = [np.cos(TURN / period * (x / 2 + 0.866 * y) + clouds[1]) for period in (7, 11)]
    dots = [np.clip(a + b - 0.2, -1, 2) for a, b in zip(rows, slanted_rows, strict=True)]
    return np.stack(clouds + woods + ripples + dots).astype(np.float32)


def grain(rng: np.random.Generator, height: int, width: int, kinds: int = 17) -> Array:
    """A random window (height, width) of one of the first `kinds` tiles."""
    top, left = rng.integers(LARGEST_SIDE - height + 1), rng.integers(LARGEST_SIDE - width + 1)
    return grain_tiles()[rng.integers(kinds), top : top + height, left : left + width]


@dataclass(frozen=True)
class Palette:
    """The colours of one ground: a theme, and the range of values its shapes have."""

    theme: tuple[float, float, float, float]
    darkest: float
    lightest: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Palette":
        darkest = rng.uniform(0.1, 0.45)
        themes = list(THEMES.values())
        return cls(themes[rng.integers(len(themes))], darkest, darkest + rng.uniform(0.25, 0.5))

    def colours(self, rng: np.random.Generator, count: int) -> Array:
        """RGB (count, 3); one in ten is of any hue."""
        hue, hue_sd, least, greatest = self.theme
        stray = rng.random(count) < 0.1
        hues = np.where(stray, rng.random(count), hue + hue_sd * rng.standard_normal(count))
        saturations = np.where(stray, rng.uniform(0.1, 0.6, count), rng.uniform(least, greatest, count))
        return hsv(hues, saturations, rng.uniform(self.darkest, self.lightest, count))


@dataclass(frozen=True)
class Shape:
    """One opaque shape of a ground; lengths in pixels, angles in radians."""

    x: float
    y: float
    radius: float
    aspect: float
    angle: float
    outline: str  # ellipse, square or leaf
    blur: float = 1.0  # width of the edge

    def reach(self, along: Array, across: Array) -> Array:
        """0 in the centre, 1 on the outline, for coordinates in units of the half axes."""
        if self.outline == "ellipse":
            return np.sqrt(along**2 + across**2)
        if self.outline == "square":
            return np.sqrt(np.sqrt(along**4 + across**4)) * 1.1
        return np.maximum(np.abs(across) + 0.9 * along**2, np.abs(along))


def lay(image: Array, shape: Shape, colour: Array, light: tuple[float, float], rng: np.random.Generator) -> None:
    """Lay a shape onto `image` (H, W, 3), in place: first a shadow around it, then the lit shape itself."""
    margin = 1.25 * shape.radius + 1  # the shadow ends a quarter outside the outline
    top, left = max(0, int(shape.y - margin)), max(0, int(shape.x - margin))
    window = image[top : max(0, int(shape.y + margin) + 1), left : max(0, int(shape.x + margin) + 1)]
    height, width = window.shape[:2]
    if not height or not width:
        return
    x = (np.arange(left, left + width, dtype=np.float32)[None, :] - shape.x) / shape.radius
    y = (np.arange(top, top + height, dtype=np.float32)[:, None] - shape.y) / shape.radius
    along, across = rotate(x, y, shape.angle)
    reach = shape.reach(along, across / shape.aspect)
    cover = np.clip((1 - reach) * shape.radius * shape.aspect / shape.blur + 0.5, 0, 1)[..., None]
    shade = 1 + x * light[0] + y * light[1] - 0.25 * np.clip(reach, 0, 1) ** 4
    shade = shade * (1 + rng.uniform(0.02, 0.15) * grain(rng, height, width))
    window *= 1 - 0.35 * np.clip(1.25 - reach, 0, 0.5)[..., None]
    window += cover * (colour * shade[..., None] - window)


def radii(rng: np.random.Generator, count: int, smallest: float, largest: float) -> Array:
    """Radii with density r^-3 between two bounds (by inverting the distribution), roughly the largest first.

    Laid in random order, the few large shapes would hide most of the small ones; laid strictly by size, no
    large shape would ever hide a small one.
    """
    bounds = smallest**-2, largest**-2
    radius = (bounds[0] - rng.random(count) * (bounds[0] - bounds[1])) ** -0.5
    return radius[np.argsort(-radius * np.exp(0.9 * rng.standard_normal(count)))]


def dead_leaves(
    rng: np.random.Generator, height: int, width: int, side: float, large: int, small: int
) -> tuple[Array, Palette]:
    """A ground (height, width, 3) of `large` + `small` shapes under one light, and its `Palette`.

    `side` is the shorter side, in pixels, of the picture that it is for: sizes of shapes are relative to it.
    """
    palette, angle = Palette.draw(rng), rng.uniform(0, TURN)
    floor, *colours = palette.colours(rng, 1 + large + small)
    image = floor * (1 + 0.1 * grain(rng, height, width, kinds=3)[..., None])
    behind = rng.uniform(0.6, 1, large) * side / 2
    sizes = np.concatenate([behind, radii(rng, small, 0.03 * side, side / 2)]).tolist()
    for radius, colour in zip(sizes, colours, strict=True):
        x, y = rng.uniform(-radius / 2, width + radius / 2), rng.uniform(-radius / 2, height + radius / 2)
        outline = ("ellipse", "ellipse", "square", "leaf")[rng.integers(4)]
        shape = Shape(x, y, radius, rng.uniform(0.3, 1), rng.uniform(0, np.pi), outline)
        strength = rng.uniform(0.1, 0.45)
        lay(image, shape, colour, (strength * cos(angle), strength * sin(angle)), rng)
    return image, palette
