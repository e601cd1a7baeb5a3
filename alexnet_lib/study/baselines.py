"""Classification without a network: by colour alone, and by a linear classifier on the pixels."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..data.pieces import in_pieces
from ..evaluation import top_k_error


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


def linear_errors(train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray], strength: float) -> dict:
    """Top-1 and top-5 validation error of multinomial logistic regression on standardised features.

    Args:
        train, val: features (N, F) and labels (N,).
        strength: the inverse of the penalty on the weights (scikit-learn's C).
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
    model.fit(*train)
    classes = 1 + max(int(labels.max()) for _, labels in (train, val))  # a class may be in one of the two only
    scores = np.zeros((len(val[1]), classes))
    scores[:, model.classes_] = model.predict_proba(val[0])
    return top_k_error(scores, val[1])
