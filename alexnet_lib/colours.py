"""§4.1, the colours of a collection: the principal axes of all its pixels, by sums that are exact in any order."""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class ColourPCA:
    """Principal axes of RGB pixels on the 0-255 scale.

    eigenvalues: (3,) of the covariance, descending, in squared grey levels.
    eigenvectors: (3, 3), one axis a column, of length 1, the largest component of each positive.
    """

    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


def colour_pca(images) -> ColourPCA:
    """The principal axes of colour over all pixels of `images`, (N, H, W, 3) on the 0-255 scale (§4.1).

    The covariance is accumulated image by image in float64.
    """
    return pca_of_moments(sum(colour_moments(np.asarray(image)) for image in images))


def colour_moments(image: np.ndarray) -> np.ndarray:
    """Σ (r, g, b, 1)ᵀ(r, g, b, 1) over the pixels of one image (H, W, 3): (4, 4) float64, exact for uint8."""
    # sums of 256 products of bytes are exact in float32 as well, and faster there
    exact = np.float32 if image.dtype == np.uint8 and image.shape[1] <= 256 else np.float64
    rows = torch.from_numpy(image.astype(exact))
    moments = np.empty((4, 4))
    moments[:3, :3] = torch.bmm(rows.mT, rows).sum(0, dtype=torch.float64)
    moments[3, :3] = moments[:3, 3] = rows.sum(1).sum(0, dtype=torch.float64)
    moments[3, 3] = rows[..., 0].numel()
    return moments


def pca_of_moments(moments: np.ndarray) -> ColourPCA:
    """The axes from summed colour moments (4, 4)."""
    mean = moments[:3, 3] / moments[3, 3]
    covariance = moments[:3, :3] / moments[3, 3] - np.outer(mean, mean)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    largest = np.abs(eigenvectors).argmax(axis=0)
    eigenvectors = eigenvectors * np.sign(eigenvectors[largest, range(3)])
    return ColourPCA(eigenvalues[::-1].clip(min=0), eigenvectors[:, ::-1])
