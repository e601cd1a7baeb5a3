"""What classifiers without a network look at: colours alone, or the pixels of small pictures."""

import numpy as np
import torch

from ..data.pieces import in_pieces


def small_pixels(images, side: int = 32) -> np.ndarray:
    """Pictures scaled down to side × side, as vectors from 0 to 1: (N, H, W, 3) to (N, 3·side²) float32."""

    def scaled(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
        pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        return pixels.flatten(1).numpy()

    return in_pieces(scaled, images)


def colour_features(images, levels: int = 4) -> np.ndarray:
    """Colours without their places: (N, H, W, 3) to (N, levels³ + 6) float64.

    The share of pixels in each cell of a coarse colour cube, and the mean and standard deviation of each channel.
    """
    cell = np.arange(256) * levels // 256  # of a value from 0 to 255, in one channel

    def counted(images: np.ndarray) -> np.ndarray:
        pixels = images.reshape(len(images), -1, 3)
        cells = cell[pixels[..., 0]] * levels**2 + cell[pixels[..., 1]] * levels + cell[pixels[..., 2]]
        cube = np.stack([np.bincount(row, minlength=levels**3) / len(row) for row in cells])
        return np.concatenate([cube, pixels.mean(1) / 255, pixels.std(1) / 255], axis=1)

    return in_pieces(counted, images)
