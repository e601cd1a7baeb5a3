"""§2: rows of a store that is sorted by class and does not fit into memory, and what is asked of them in pieces."""

import tracemalloc

import numpy as np
import pytest
import torch

from alexnet_lib import alexnet
from alexnet_lib.data import pieces
from alexnet_lib.data.jpeg_store import JpegImages, encode
from alexnet_lib.data.preparation import write_store
from alexnet_lib.dataset import open_store
from alexnet_lib.evaluation import predict
from alexnet_lib.qualitative import hidden_features
from alexnet_lib.study import baselines


def sorted_store(folder, each=9, classes=10, side=16):
    """A store of plain grey pictures, sorted by class; the class is a tenth of their level."""
    labels = np.repeat(np.arange(classes), each)
    images = np.broadcast_to((10 * labels).astype(np.uint8)[:, None, None, None], (len(labels), side, side, 3))
    names = [f"class {i}" for i in range(classes)]
    return open_store(write_store(folder / "store", images.copy(), labels, names, {"source": "test"}))


@pytest.mark.parametrize("count", [10, 11, 45, 89])
def test_rows_that_are_spread_are_of_all_classes(tmp_path, count):
    store = sorted_store(tmp_path)
    part = store.spread(count)
    assert len(part) == len(part.images) == count and set(part.labels) == set(range(10))
    assert part.images.shape == (count, 16, 16, 3)
    np.testing.assert_array_equal(np.asarray(part.images)[:, 0, 0, 0], 10 * part.labels)
    assert store.spread(90) is store and store.spread(1000) is store


INDICES = [slice(2, 7), slice(None, None, -1), 3, [4, 1], (slice(1, 4), 0), (2, slice(3), 1), ..., (..., 0), None]
INDICES += [([4, 1], [2, 3]), ([1, 2, 5], 0), (3, slice(None), [0, 1]), (slice(1, 4), [0, 1], slice(None), [0, 1])]
INDICES += [(slice(0, 4), ..., 1), (-1, ..., 0), (np.array([[0, 1], [2, 3]]), slice(2)), np.arange(8) % 2 == 0]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_chosen_rows_are_indexed_as_an_array_is(index):
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 5, 3), np.uint8)
    rows = np.array([0, 3, 4, 9, 15, 16, 17, 19])
    np.testing.assert_array_equal(np.asarray(pieces.Rows(images, rows)[index]), images[rows][index])


def test_a_slice_of_chosen_rows_reads_nothing():
    class Unread:
        shape = (1_281_167, 256, 256, 3)

    rows = pieces.Rows(Unread(), pieces.evenly(1_281_167, 4000))
    assert rows[100:228].shape == (128, 256, 256, 3) and len(rows) == 4000


def test_pictures_of_a_jpeg_store_are_chosen_as_well(tmp_path):
    pictures = [encode(np.full((16, 16, 3), 20 * i, np.uint8)) for i in range(10)]
    ends = np.cumsum([len(p) for p in pictures])
    content = np.frombuffer(b"".join(pictures), np.uint8)
    images = JpegImages(tmp_path / "images.jpegs", content, np.r_[0, ends], 16)
    chosen = pieces.Rows(images, pieces.evenly(10, 4))
    levels = [0, 60, 120, 180]
    np.testing.assert_allclose(np.asarray(chosen)[:, 8, 8, 0], levels, atol=2)
    np.testing.assert_allclose(baselines.small_pixels(chosen, 4).mean(1) * 255, levels, atol=2)


def test_a_net_is_asked_about_chosen_rows_as_about_an_array():
    images = np.random.default_rng(0).integers(0, 256, (40, 73, 73, 3), np.uint8)
    rows, mean, net = (
        pieces.evenly(40, 11),
        torch.full((3, 64, 64), 120.0),
        alexnet("paper", 5, width=0.05, image_size=64),
    )
    chosen = pieces.Rows(images, rows)
    for views in (1, 10):
        assert torch.equal(predict(net, chosen, mean, views), predict(net, images[rows], mean, views))
    np.testing.assert_array_equal(hidden_features(net, chosen, mean), hidden_features(net, images[rows], mean))


@pytest.mark.parametrize("features", [baselines.colour_features, baselines.small_pixels])
def test_features_do_not_depend_on_the_pieces(features):
    images = np.random.default_rng(0).integers(0, 256, (70, 64, 64, 3), np.uint8)
    together = features(images)
    np.testing.assert_array_equal(together, np.concatenate([features(images[:33]), features(images[33:])]))


def test_colour_features_take_memory_for_a_piece_only():
    images = np.zeros((400, 64, 64, 3), np.uint8)
    tracemalloc.start()
    baselines.colour_features(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * images[: pieces.PIECE].size + 1e6, f"{peak:,} bytes"
