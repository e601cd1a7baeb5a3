"""The checks of notebook 00 fail when what the reader writes and the library no longer agree."""

import nbformat
import numpy as np
import pytest

from alexnet_lib import IMAGENET_PCA, colour_pca, small_pictures, top_k_error
from alexnet_lib.colours import ColourPCA
from alexnet_lib.dataset import Store
from alexnet_lib.paths import NOTEBOOKS

CELLS = {cell.id: cell.source for cell in nbformat.read(NOTEBOOKS / "00_dataset.ipynb", 4).cells}

SKIPPED = ("from ", "import ", "photographic(")


@pytest.fixture
def store(tmp_path):
    """As the notebook opens one."""
    images, labels = small_pictures(0, 48)
    pca = colour_pca(images)
    return Store(tmp_path, images, labels, images.mean(0), pca, [f"class {i}" for i in range(24)], {})


def run(names: dict, *cells: str) -> None:
    """Run cells without their imports and figures, so that another function can stand in for the library's."""
    for cell in cells:
        lines = [line for line in CELLS[cell].splitlines() if not line.startswith(SKIPPED)]
        exec(compile("\n".join(lines), cell, "exec"), names)


def test_the_errors_counted_by_hand_are_those_of_the_library(store):
    scores = np.random.default_rng(0).random((48, 24))
    names = {"np": np, "scores": scores, "asked": store, "top_k_error": top_k_error, "Markdown": str}
    run(names, "errors-count", "errors-check")
    names["top_k_error"] = lambda scores, labels: top_k_error(scores, labels, (1, 3))
    with pytest.raises(AssertionError):
        run(names, "errors-check")


def test_the_axes_found_by_hand_are_those_of_the_library(store):
    names = {"np": np, "train": store, "colour_pca": colour_pca}
    run(names, "colour", "colour-check")
    for wrong in (
        lambda images: IMAGENET_PCA,
        lambda images: ColourPCA(colour_pca(images).eigenvalues ** 0.5, colour_pca(images).eigenvectors),
    ):
        with pytest.raises(AssertionError):
            run(names | {"colour_pca": wrong}, "colour-check")


@pytest.mark.parametrize("off", [0, 4])
def test_the_prepared_squares_and_their_mean_are_those_cut_by_hand(store, off):
    names = {"np": np, "by_hand": [image.clip(off) - off for image in store.images], "images": store.images}
    if not off:
        return run(names | {"store": store}, "prepare-check")
    with pytest.raises(AssertionError):
        run(names | {"store": store}, "prepare-check")
