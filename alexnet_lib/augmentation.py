"""§4.1, data augmentation: random crops and reflections, colour noise along the principal axes, ten views at test.

Images are uint8 (N, H, W, 3), numpy arrays or torch tensors; what comes back is of the kind that went in.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .colours import ColourPCA
from .data.pieces import Rows

OFFSETS = ("code2012", "printed")
NOISE_UNITS = ("code2012", "deviation", "printed", "torch")
# of ImageNet's pixels: the deviations and axes in input_meta, which came with the program of 2014
IMAGENET_PCA = ColourPCA(
    np.array([121.7801, 37.0939, 19.7208]) ** 2,
    np.array([[-0.564, -0.713, 0.418], [-0.576, -0.024, -0.817], [-0.592, 0.701, 0.397]]),
)
COPIED_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])  # of ImageNet, for pixels from 0 to 1, in many programs
# of training images: crops, reflections and colours; all but colours; nothing but colours; nothing
AUGMENTATIONS = ("all", "crops", "colours", "none")
# the views of an image in a test, by their number: where a view begins, in widths of the border above and to the left,
# and whether it is mirrored. One; nine as in convdata_cifar.py of 2012; ten as in the later program and the paper
_FOUR_CORNERS_AND_CENTRE = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))
VIEWS = {
    1: ((0.5, 0.5, False),),
    9: tuple((top, left, False) for top in (0, 0.5, 1) for left in (0, 0.5, 1)),
    10: tuple((*place, mirrored) for mirrored in (False, True) for place in _FOUR_CORNERS_AND_CENTRE),
}


def offset_count(border: int, offsets: str = "code2012") -> int:
    """How many places a crop may start at on each axis, for images `border` pixels larger than the crop.

    The 2012 program draws from 0 to the border inclusive (convdata_jpeg.py), 33 for 256 and 224. The paper counts
    32 · 32 · 2 = 2048 views, which leaves out the last place: "printed".
    """
    if offsets not in OFFSETS:
        raise ValueError(f"offsets = {offsets!r}; accepted are {', '.join(OFFSETS)}")
    if border < 0:
        raise ValueError(f"the crop is {-border} pixels larger than the images")
    return border + 1 if offsets == "code2012" else max(border, 1)


def views_drawn(border: int = 32, offsets: str = "code2012", draws: int = 200_000) -> int:
    """How many different views of one image come up among so many draws; 32 is the border of 224 in 256."""
    views = draw_views(np.random.default_rng(0), draws, (border, border), offsets)
    return len(np.unique((views.top * (border + 1) + views.left) * 2 + views.mirrored))


@dataclass(frozen=True)
class Views:
    """Which crop of each image is seen, and whether mirrored: three arrays, or tensors, of N."""

    top: np.ndarray
    left: np.ndarray
    mirrored: np.ndarray

    def __getitem__(self, rows) -> "Views":
        return Views(self.top[rows], self.left[rows], self.mirrored[rows])


def draw_views(generator, count: int, borders: tuple[int, int], offsets: str = "code2012") -> Views:
    """Draw `count` crops and reflections, each uniformly and on its own, for borders below and to the right (§4.1)."""
    top, left = (generator.integers(offset_count(border, offsets), size=count) for border in borders)
    return Views(top, left, generator.random(count) < 0.5)


def centre_views(count: int, borders: tuple[int, int]) -> Views:
    """The central crop of each of `count` images, as `draw_views` would name it."""
    top, left = (np.full(count, border // 2) for border in borders)
    return Views(top, left, np.zeros(count, bool))


def cut_views(images, views: Views, size: int, rows=None):
    """Cut one view an image: uint8 (N, size, size, 3), an array of a store on disk, a tensor of one in memory.

    rows: the images to look at, of a larger collection, which is not copied.
    """
    rows = np.arange(len(images)) if rows is None else np.asarray(rows)
    if isinstance(images, torch.Tensor):
        return _gathered(images, views, size, rows)
    if isinstance(images, Rows):
        images, rows = images[rows], range(len(rows))
    images = np.asarray(images)  # slices of a memory map are memory maps, which cost several times as much
    crops = np.empty((len(rows), size, size, 3), np.uint8)
    pixels = torch.from_numpy(crops)
    for i, row in enumerate(rows):
        crops[i] = images[row, views.top[i] : views.top[i] + size, views.left[i] : views.left[i] + size]
        if views.mirrored[i]:  # numpy takes ten times as long to turn three bytes around
            pixels[i] = pixels[i].flip(1)
    return crops


def _gathered(images: Tensor, views: Views, size: int, rows: np.ndarray) -> Tensor:
    """`cut_views` on the images' device, all at once."""
    parts = (rows, views.top, views.left, views.mirrored)
    rows, top, left, mirrored = (torch.as_tensor(part).to(images.device, non_blocking=True) for part in parts)
    line = torch.arange(size, device=images.device)
    across = left[:, None] + torch.where(mirrored[:, None], size - 1 - line, line)
    return images[rows[:, None, None], (top[:, None] + line)[:, :, None], across[:, None]]


def random_crops(images, size: int = 224, offsets: str = "code2012", generator=None):
    """One random crop and, for half of them, its reflection, for each image (§4.1).

    Args:
        images: uint8 (N, H, W, 3), a numpy array, a torch tensor, or the images of a store.
        size: side of the crop in pixels.
        offsets: "code2012" (33 places an axis for 224 of 256) or "printed" (32).
        generator: a numpy or torch generator; a fresh one unless given.

    Returns:
        uint8 (N, size, size, 3).

    Raises:
        ValueError: images of another kind or smaller than the crop, or an unknown `offsets`.
    """
    _check_pixels(images, size)
    borders = (images.shape[1] - size, images.shape[2] - size)
    return cut_views(images, draw_views(numpy_generator(generator), len(images), borders, offsets), size)


def views_of(images, size: int, places) -> np.ndarray:
    """Several views of each image, (N, len(places), size, size, 3), as `VIEWS` names their places."""
    _check_pixels(images, size)
    borders, views = (images.shape[1] - size, images.shape[2] - size), []
    if isinstance(images, Tensor):
        rows, views = every_view(len(images), borders, places)
        return _gathered(images, views, size, rows).unflatten(0, (len(images), len(places)))
    images = np.asarray(images)  # read once, where they are on disk
    _, each = every_view(1, borders, places)
    for top, left, mirrored in zip(each.top, each.left, each.mirrored, strict=True):
        window = images[:, top : top + size, left : left + size]
        views.append(window[:, :, ::-1] if mirrored else window)
    return np.stack(views, 1)


def every_view(count: int, borders: tuple[int, int], places) -> tuple[np.ndarray, Views]:
    """These views of each of `count` images, one image after the other: the image of each, and the views."""
    top, left = ([int(place[axis] * border) for place in places] for axis, border in enumerate(borders))
    views = Views(*(np.tile(part, count) for part in (top, left, [mirrored for *_, mirrored in places])))
    return np.repeat(np.arange(count), len(places)), views


def ten_views(images, size: int = 224):
    """The paper's test views (§4.1): four corners and the centre, then the mirror images of these five.

    uint8 (N, H, W, 3) to uint8 (N, 10, size, size, 3); ValueError for others, or smaller ones, as in `random_crops`.
    """
    return views_of(images, size, VIEWS[10])


def centre_crops(images, size: int = 224):
    """The central size × size pixels of images (N, H, W, 3) of any dtype: (N, size, size, 3)."""
    _check_sizes(images, size)
    top, left = (images.shape[1] - size) // 2, (images.shape[2] - size) // 2
    return images[:, top : top + size, left : left + size]


def colour_shifts(pca, standard_normals: np.ndarray, std: float = 0.1, units: str = "code2012") -> np.ndarray:
    """What is added to every pixel of an image: (N, 3) grey levels of red, green and blue, from (N, 3) normals.

    The paper adds Σ α·λ·p over the three principal axes p with eigenvalues λ, α normal with deviation 0.1. With λ
    the eigenvalue, the shift depends on the unit of the pixels; the 2012 program has the deviation √λ there
    (convdata_jpeg.py). Readings by name:

        code2012, deviation   √λ
        printed               λ of pixels on the 0-255 scale
        torch                 λ of pixels on the 0-1 scale, as in the constants that are passed around
    """
    if units not in NOISE_UNITS:
        raise ValueError(f"units = {units!r}; accepted are {', '.join(NOISE_UNITS)}")
    size = {"printed": pca.eigenvalues, "torch": pca.eigenvalues / 255}.get(units, np.sqrt(pca.eigenvalues))
    return (standard_normals * std * size @ pca.eigenvectors.T).astype(np.float32)


def add_colour_noise(images, pca, std=0.1, units="code2012", generator=None, shifts=None, in_place=False):
    """Shift the colour of each image along the principal axes of RGB (§4.1).

    Args:
        images: (N, H, W, 3), or one picture (H, W, 3), on the 0-255 scale, uint8 or float, with or without the mean
            subtracted.
        pca: what `colour_pca` returns.
        std: standard deviation of α; the paper's 0.1.
        units: which reading of λ, as in `colour_shifts`; "code2012" also divides the image by 1 + std.
        generator: a numpy or torch generator; a fresh one unless given.
        shifts: (N, 3), what `colour_shifts` has given before, in place of new ones.
        in_place: change the images, contiguous float32 tensors, and return them.

    Returns:
        float32, of the images' shape.

    Raises:
        ValueError: images of another shape, a `std` that is negative or not finite, or unknown `units`.
    """
    if images.ndim not in (3, 4) or images.shape[-1] != 3:
        raise ValueError(f"images are {tuple(images.shape)}; accepted are (N, H, W, 3), and one picture (H, W, 3)")
    if not 0 <= std < np.inf:
        raise ValueError(f"std = {std}; accepted are finite numbers from 0 on")
    if shifts is None:
        normals = numpy_generator(generator).standard_normal((len(images) if images.ndim == 4 else 1, 3))
        shifts = torch.from_numpy(colour_shifts(pca, normals, std, units))
    shifts = torch.as_tensor(shifts)
    count = len(images) if images.ndim == 4 else 1
    if tuple(shifts.shape) != (count, 3):
        raise ValueError(f"shifts are {tuple(shifts.shape)} for {count} images; accepted are (N, 3)")
    pixels = images
    if not in_place and isinstance(images, Tensor):
        pixels = images.detach().float().clone(memory_format=torch.contiguous_format)
    elif not in_place:  # copied by numpy, for torch doesn't take what is mirrored by a stride below zero
        pixels = torch.from_numpy(np.array(images, np.float32, order="C"))
    rows = pixels.view(count, pixels.shape[-3], 3 * pixels.shape[-2])
    # colours as rows of 3·W numbers, which are added many times faster than triples
    rows.add_(shifts.to(rows.device).repeat(1, pixels.shape[-2])[:, None]).div_(1 + std if units == "code2012" else 1.0)
    return pixels if in_place or isinstance(images, Tensor) else pixels.numpy()


def recoloured(images, mean, pca, normals, std: float = 0.1, units: str = "code2012") -> np.ndarray:
    """Images (N, H, W, 3) with the colour noise of these normals (N, 3), as pictures to look at: uint8.

    The mean is taken off, the noise added, the result divided as `units` says, and the mean put back.
    """
    images, normals = np.asarray(images, np.float32), np.asarray(normals)
    if images.ndim != 4 or images.shape[3] != 3 or normals.shape != (len(images), 3):
        raise ValueError(f"images {images.shape} with normals {normals.shape}; accepted are (N, H, W, 3) with (N, 3)")
    shifts = torch.from_numpy(colour_shifts(pca, normals, std, units))
    noisy = add_colour_noise(images - mean, pca, std, units, shifts=shifts) + mean
    return noisy.round().clip(0, 255).astype(np.uint8)


def in_light(images, gains) -> np.ndarray:
    """Pictures (N, H, W, 3) in another light, uint8: their red, green and blue multiplied by three gains."""
    return (np.asarray(images) * np.asarray(gains, np.float32)).round().clip(0, 255).astype(np.uint8)


def numpy_generator(generator=None) -> np.random.Generator:
    """A numpy generator from numpy's own, torch's, or nothing (a fresh one)."""
    if isinstance(generator, torch.Generator):
        return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    return np.random.default_rng(generator)


def _check_pixels(images, size: int) -> None:
    """Images are uint8 (N, H, W, 3), and no smaller than the crop."""
    if images.dtype not in (np.uint8, torch.uint8):
        raise ValueError(f"images are {images.dtype} {tuple(images.shape)}; accepted is uint8 (N, H, W, 3)")
    _check_sizes(images, size)


def _check_sizes(images, size: int) -> None:
    if images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images are {tuple(images.shape)}; accepted are (N, H, W, 3)")
    if not 1 <= size <= min(images.shape[1:3]):
        raise ValueError(f"size = {size} for images of {images.shape[1]} × {images.shape[2]} pixels")
