"""The things of the built-in collection: six silhouettes, four surfaces that are painted on them, and the grain of all.

A silhouette is an implicit function, a field (N, H, W): positive inside the thing, zero on its outline, negative
outside, in units of the thing's half-extent. A union of parts is the maximum of their fields, a cut the minimum.
x points right and y up; the thing fills about -1..1. Proportions are drawn anew for every picture.
"""

from dataclasses import dataclass
from functools import cache
from math import tau

import numpy as np

Array = np.ndarray
Details = list[tuple[Array, str]]  # a field, positive where the detail lies, and the name of its paint
NOWHERE = -1.0  # a field value well outside everything
LARGEST_SIDE = 512  # pixels: the side of the grain's tiles, and so of the largest picture


@dataclass(frozen=True)
class Draw:
    """Random numbers, one a picture: float32 of shape (count, 1, 1), to broadcast over fields (N, H, W)."""

    rng: np.random.Generator
    count: int

    def __call__(self, low: float, high: float) -> Array:
        return self.rng.uniform(low, high, (self.count, 1, 1)).astype(np.float32)

    def spread(self, sd: float, channels: int = 1) -> Array:
        """Factors around 1, the exponential of a normal variable: (count, 1, 1, channels)."""
        return np.exp(sd * self.rng.standard_normal((self.count, 1, 1, channels))).astype(np.float32)

    def phase(self) -> Array:
        """An angle in radians."""
        return self(0, tau)

    def chance(self, probability: float) -> Array:
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
    """A bell curve of height 1."""
    return np.exp(-((z / width) ** 2))


def leaf(x: Array, y: Array, draw: Draw) -> tuple[Array, Details]:
    """A blade that tapers as (1 + x)^a (1 - x)^b, serrated by a wave, with a stalk and a midrib."""
    y = y - draw(-0.3, 0.3) * (x * x - 0.3)  # the whole leaf is bent
    base, tip, half_width, teeth = draw(0.55, 0.95), draw(0.8, 1.4), draw(0.36, 0.56), draw(6, 11)
    widest = (base - tip) / (base + tip)
    along = np.clip(x, -1, 1)
    taper = (1 + along) ** base * (1 - along) ** tip / ((1 + widest) ** base * (1 - widest) ** tip)
    depth = draw(-0.12, 0.16).clip(0)  # four leaves in ten have a smooth margin
    serration = 1 + depth * np.sin(tau / 2 * teeth * along + 6 * np.abs(y))
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
    """A thrown pot: a belly, a lip and a foot around an axis. Every second one has a pair of handles."""
    belly_at, belly, neck = draw(-0.35, 0.2), draw(0.24, 0.42), draw(0.22, 0.36)
    half_width = neck + belly * bump(y - belly_at, draw(0.3, 0.5))
    half_width = half_width + 0.12 * bump(y - 0.95, 0.13) + 0.06 * bump(y + 0.95, 0.12)
    pot = np.minimum(half_width - np.abs(x), 0.96 - np.abs(y))
    ring = np.hypot((np.abs(x) - draw(0.42, 0.6)) / 0.8, y - belly_at - 0.25) - 0.28
    handles = np.where(draw.chance(0.5), 0.07 - np.abs(ring), NOWHERE)
    groove = np.where(np.abs(x) > half_width, NOWHERE, 0.025 - np.abs(y - 0.84))
    return union(pot, handles), [(groove, "darker")]


# each with its size relative to the others, and its largest tilt in radians
SILHOUETTES = {
    "leaf": (leaf, 0.98, 0.70),
    "fish": (fish, 0.98, 0.33),
    "bird": (bird, 1.02, 0.27),
    "butterfly": (butterfly, 1.00, 0.40),
    "flower": (flower, 0.88, np.pi),
    "jar": (jar, 0.98, 0.22),
}

# A surface takes the thing's own coordinates, the waves' frequency (radians a half-extent) and the draw. The sign of
# the field that it returns chooses between the two colours of a pair.


def striped(x: Array, y: Array, frequency: Array, draw: Draw) -> Array:
    """Stripes across the thing's length, one colour a little wider than the other."""
    return np.sin(frequency * x + draw.phase()) + draw(-0.3, 0.3)


def spotted(x: Array, y: Array, frequency: Array, draw: Draw) -> Array:
    """Spots on a hexagonal lattice, where the crests of three waves at 120 degrees meet."""
    first, second = draw.phase(), draw.phase()
    phases = (first, second, -first - second)  # they add up to zero, or the crests would not meet
    turned = (rotate(x, y, i * tau / 3)[0] for i in range(3))
    waves = sum(np.cos(1.1 * frequency * along + phase) for along, phase in zip(turned, phases, strict=True))
    return 0.8 * (waves - draw(0.5, 0.9))


def chequered(x: Array, y: Array, frequency: Array, draw: Draw) -> Array:
    """Lozenges, as on a harlequin's costume: squares that stand on a corner."""
    u, v = rotate(x, y, np.pi / 4)
    return 1.7 * np.sin(0.8 * frequency * u + draw.phase()) * np.sin(0.8 * frequency * v + draw.phase())


def marbled(x: Array, y: Array, frequency: Array, draw: Draw) -> Array:
    """Large flakes without a direction: five waves all round, two to four times as long as usual."""
    waves = 0.0
    for i in range(5):
        along, _ = rotate(x, y, (i + draw(-0.4, 0.4)) * np.pi / 5)
        waves = waves + np.cos(frequency * draw(0.28, 0.46) * along + draw.phase())
    return 1.1 * waves + draw(-0.2, 0.2)


SURFACES = {"striped": striped, "spotted": spotted, "chequered": chequered, "marbled": marbled}


def soft_step(z: Array) -> Array:
    """The logistic function; its argument is bounded because float32's exp overflows at 88."""
    return 1 / (1 + np.exp(-np.clip(z, -30, 30)))


def surface_mix(name: str, x: Array, y: Array, draw: Draw) -> Array:
    """How much of the pair's second colour a surface shows at each point: (N, H, W) in 0..1.

    One period is 0.40 to 0.56 of the half-extent: 10 to 15 pixels where the picture is 64 wide, about the width of an
    11×11 kernel of the first layer. The pattern lies within 0.3 radians of the thing's axes, to either side, so a
    mirror image belongs to the same class.
    """
    frequency, angle = tau / draw(0.40, 0.56), draw(-0.3, 0.3)
    warp, wave, phase = draw(0, 0.05), draw(2, 6), draw.phase()
    x, y = x + warp * np.sin(wave * y + phase), y + warp * np.sin(wave * x + 1.7 * phase)
    return soft_step(SURFACES[name](*rotate(x, y, angle), frequency, draw) * draw(5, 10))


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
        1.2 * np.sin(tau / rng.uniform(5, 14) * rotate(x, y, angle)[0] + 1.2 * clouds[2]) for angle in angles + 0.2
    ]
    rows = [np.cos(tau / period * x + clouds[2]) for period in (7, 11)]
    slanted_rows = [np.cos(tau / period * (x / 2 + 0.866 * y) + clouds[1]) for period in (7, 11)]
    dots = [np.clip(a + b - 0.2, -1, 2) for a, b in zip(rows, slanted_rows, strict=True)]
    return np.stack(clouds + woods + ripples + dots).astype(np.float32)


def grain(rng: np.random.Generator, height: int, width: int, kinds: int = 17) -> Array:
    """A random window (height, width) of one of the first `kinds` tiles."""
    top, left = rng.integers(LARGEST_SIDE - height + 1), rng.integers(LARGEST_SIDE - width + 1)
    return grain_tiles()[rng.integers(kinds), top : top + height, left : left + width]
