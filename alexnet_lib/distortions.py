"""GoogLeNet's augmentation (§6): crops of any size and shape, distorted colours, 144 views of a picture at test time.

AlexNet's (§4.1) is `augmentation.py`. Images are uint8 (N, H, W, 3).
"""

from itertools import permutations

import numpy as np
from PIL import Image

AREA = (0.08, 1.0)  # of the picture
ASPECT = (3 / 4, 4 / 3)
# bilinear, area, nearest neighbour and cubic, "with equal probability"
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BOX, Image.Resampling.NEAREST, Image.Resampling.BICUBIC)
STRENGTH = 0.5  # a factor from 1 − this to 1 + this (Howard 2013, whom §6 follows)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
AREAS = ("top", "left", "height", "width", "mirrored", "filter")  # of `draw_areas`
SCALES = (256, 288, 320, 352)  # of the shorter side, for crops of 224


def draw_areas(generator: np.random.Generator, count: int, size: tuple[int, int]) -> np.recarray:
    """Draw `count` crops of pictures of this height and width: top, left, height and width in pixels, fractions
    included, mirrored, and the number of a filter.

    Area and aspect ratio are each uniform in their range, and drawn again where the crop does not fit. (torchvision's
    RandomResizedCrop has the same ranges and draws the logarithm of the aspect; the paper doesn't say.)

    Raises:
        ValueError: pictures so long and thin that no crop fits.
    """
    if min(size) < 1 or not AREA[0] * max(size) / min(size) < ASPECT[1]:
        longest = ASPECT[1] / AREA[0]
        raise ValueError(f"pictures of {size[0]} × {size[1]}; accepted are sides less than {longest:.1f} : 1")
    height, width = np.zeros(count), np.zeros(count)
    left_over = np.arange(count)
    while len(left_over):
        area = generator.uniform(*AREA, len(left_over)) * size[0] * size[1]
        aspect = generator.uniform(*ASPECT, len(left_over))
        height[left_over], width[left_over] = np.sqrt(area / aspect), np.sqrt(area * aspect)
        left_over = left_over[(height[left_over] > size[0]) | (width[left_over] > size[1])]
    top, left = generator.random(count) * (size[0] - height), generator.random(count) * (size[1] - width)
    mirrored, filters = generator.random(count) < 0.5, generator.integers(len(FILTERS), size=count)
    return np.rec.fromarrays([top, left, height, width, mirrored, filters], names=AREAS)


def cut_areas(images, areas: np.recarray, size: int, rows=None) -> np.ndarray:
    """Cut one area from each image and scale it: (N, size, size, 3) uint8. `rows` picks images as in `cut_views`."""
    rows = range(len(images)) if rows is None else rows
    crops = np.empty((len(rows), size, size, 3), np.uint8)
    for i, row in enumerate(rows):
        top, left, height, width, mirrored, number = areas[i]
        box = (left, top, left + width, top + height)
        crop = np.asarray(Image.fromarray(np.asarray(images[row])).resize((size, size), FILTERS[number], box))
        crops[i] = crop[:, ::-1] if mirrored else crop
    return crops


def draw_distortions(generator: np.random.Generator, count: int) -> np.ndarray:
    """What `distort` takes, (count, 4): factors for brightness, contrast and saturation, and the number of an order."""
    factors = generator.uniform(1 - STRENGTH, 1 + STRENGTH, (count, 3))
    return np.column_stack([factors, generator.integers(6, size=count)])


def distort(images: np.ndarray, distortions: np.ndarray) -> np.ndarray:
    """Photometric distortion of uint8 images (N, H, W, 3): brightness, contrast and saturation, in a drawn order.

    Each mixes the image by its factor with another: black, its mean grey, its own greys. Values are clipped to 0-255
    after every step, as in a picture.
    """
    orders, out = list(permutations(range(3))), np.empty_like(images)
    for i, (image, (*factors, order)) in enumerate(zip(images, distortions, strict=True)):
        pixels = image.astype(np.float32)
        for kind in orders[int(order)]:
            other = (0.0, (pixels @ LUMA).mean(), (pixels @ LUMA)[..., None])[kind]
            pixels = (other + np.float32(factors[kind]) * (pixels - other)).clip(0, 255)
        out[i] = pixels.round()
    return out


def scales_for(crop: int) -> tuple[int, ...]:
    """The four sides that pictures are scaled to for test crops of this side, in the paper's ratios to 224."""
    return tuple(round(crop * scale / 224) for scale in SCALES)


def many_views(picture: np.ndarray, crop: int = 224) -> np.ndarray:
    """The 144 test views of a picture (H, W, 3) uint8: (144, crop, crop, 3), §7.

    Four scales of the shorter side; for each the left, middle and right square (upper, middle and lower of an upright
    picture); for each its four corners, its centre and all of it, scaled down; for each the reflection. The three
    squares of a square picture are the same.
    """
    views, image = [], Image.fromarray(picture)
    for side in scales_for(crop):
        scale = side / min(image.size)
        scaled = np.asarray(image.resize([round(length * scale) for length in image.size], Image.Resampling.BICUBIC))
        room, across = max(scaled.shape[:2]) - side, scaled.shape[1] > scaled.shape[0]
        for start in (0, room // 2, room):
            square = scaled[:side, start : start + side] if across else scaled[start : start + side, :side]
            far, middle = side - crop, (side - crop) // 2
            corners = [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]
            six = [square[top : top + crop, left : left + crop] for top, left in corners]
            six.append(np.asarray(Image.fromarray(square).resize((crop, crop), Image.Resampling.BICUBIC)))
            views += [view for each in six for view in (each, each[:, ::-1])]
    return np.stack(views)
