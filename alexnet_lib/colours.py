"""§4.1, the colours of a collection: the principal axes of all its pixels, from sums that are exact in any order."""

from dataclasses import dataclass

import numpy as np

FIRST, SECOND = np.triu_indices(3)  # the pairs of channels


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

    Raises:
        ValueError: no pixels, images of another shape, or values that are not finite.
    """
    products, sums, count = np.zeros((3, 3)), np.zeros(3), 0
    for image in map(np.array, images):
        if image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"an image of shape {image.shape}; accepted are (N, H, W, 3), each with pixels")
        products += colour_products(image)
        sums += image.sum((0, 1), dtype=np.float64)
        count += image.shape[0] * image.shape[1]
    return pca_of_sums(products, sums, count)


def colour_products(image: np.ndarray) -> np.ndarray:
    """Σ (r, g, b)ᵀ(r, g, b) over the pixels of one image (H, W, 3): (3, 3) float64, exact for uint8.

    Each row is multiplied by itself shifted by 0, 1 and 2 numbers, which is faster than a product of thin matrices.
    """
    # a sum of 256 products of bytes is less than 2²⁴, so float32 holds it exactly
    rows = image.reshape(len(image), -1).astype(np.float32 if image.dtype == np.uint8 else np.float64)
    sums = np.zeros((3, rows.shape[1]))
    for start in range(0, len(rows), 256):
        part = rows[start : start + 256]
        for apart, row in enumerate(sums):
            end = len(row) - apart
            row[:end] += np.einsum("ij,ij->j", part[:, :end], part[:, apart:])
    by_channel = sums.reshape(3, -1, 3).sum(1)  # (apart, the first of the two)
    products = np.empty((3, 3))
    products[FIRST, SECOND] = products[SECOND, FIRST] = by_channel[SECOND - FIRST, FIRST]
    return products


def pca_of_sums(products: np.ndarray, sums: np.ndarray, count: int) -> ColourPCA:
    """The axes from sums over `count` pixels: of the products of their channels (3, 3), and of the channels (3,)."""
    if not count or not np.isfinite(products).all():
        raise ValueError(f"the colours of {count} pixels; accepted are finite values of at least one")
    mean = sums / count
    covariance = products / count - np.outer(mean, mean)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    largest = np.abs(eigenvectors).argmax(axis=0)
    eigenvectors = eigenvectors * np.sign(eigenvectors[largest, range(3)])
    return ColourPCA(eigenvalues[::-1].clip(min=0), eigenvectors[:, ::-1])
