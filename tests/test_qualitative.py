"""§6.1: colourfulness, plausibility, neighbours and codes against cases whose answer is known."""

from functools import partial
from itertools import product

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from alexnet_lib import alexnet, qualitative
from alexnet_lib.ledger.measures import MEASURES
from alexnet_lib.paths import NOTEBOOKS


def clusters(count=40, classes=5, units=32, noise=0.3, seed=0):
    """Features that lie around one centre a class, (N, units) float32, and their labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).standard_normal((classes, units))
    return (centres[labels] + noise * generator.standard_normal((count, units))).astype(np.float32), labels


def test_colour_is_what_is_not_grey():
    grey = np.repeat(np.random.default_rng(0).standard_normal((5, 1, 7, 7)), 3, axis=1)
    np.testing.assert_allclose(qualitative.colourfulness(grey), 0, atol=1e-12)
    np.testing.assert_allclose(qualitative.colourfulness(grey * np.array([1, -1, 0]).reshape(1, 3, 1, 1)), 1)
    np.testing.assert_allclose(qualitative.colourfulness(7 * grey[:, :1] * np.ones((1, 3, 1, 1))), 0, atol=1e-12)
    red = np.zeros((1, 3, 2, 2))
    red[:, 0] = 1
    np.testing.assert_allclose(qualitative.colourfulness(red), 2 / 3)


def test_columns_that_differ_are_told_from_those_that_do_not():
    generator = np.random.default_rng(0)
    alike = generator.random(48)
    apart = np.concatenate([0.2 * generator.random(24), 0.8 + 0.2 * generator.random(24)])
    assert qualitative.column_difference(apart)[0] == pytest.approx(0.8, abs=0.1)
    assert qualitative.column_difference(apart)[1] == pytest.approx(1 / 10_001)
    assert qualitative.column_difference(alike)[1] > 0.05
    assert qualitative.column_difference(-apart)[0] < 0 and qualitative.column_difference(-apart)[1] < 0.001


def test_the_permutation_test_is_exact_where_all_can_be_counted():
    """Six values, twenty divisions; two of them are as extreme as the largest three against the smallest."""
    values = np.arange(6.0)
    assert qualitative.column_difference(values, draws=20_000)[1] == pytest.approx(2 / 20, abs=0.01)


@pytest.mark.parametrize("values", [[0.1, np.nan], [0.3], []])
def test_columns_are_not_told_apart_by_what_is_no_number(values):
    with pytest.raises(ValueError, match=f"{len(values)} values, {int(np.isnan(values).sum())} of them not finite"):
        qualitative.column_difference(values)


def test_relatives_share_an_outline_or_a_surface():
    names = ["striped_fish", "spotted_fish", "striped_jar", "spotted_jar"]
    kin = qualitative.related(names)
    assert kin.astype(int).tolist() == [[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]


def test_plausibility_of_a_guess_is_one():
    names = [f"{a}_{b}" for a in ("x", "y", "z") for b in ("p", "q", "r")]
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 9, 5000)
    assert qualitative.plausibility(generator.random((5000, 9)), labels, names) == pytest.approx(1, abs=0.05)
    only_kin = qualitative.related(names)[labels] + 2 * np.eye(9)[labels]
    assert qualitative.plausibility(only_kin, labels, names) == pytest.approx(2)  # 4 of 8 are relatives


def test_neighbours_are_those_that_another_library_finds():
    known, _ = clusters(300, noise=1.0)
    asked, _ = clusters(50, noise=1.0, seed=1)
    theirs = NearestNeighbors(n_neighbors=6).fit(known).kneighbors(asked, return_distance=False)
    np.testing.assert_array_equal(qualitative.neighbours(asked, known), theirs)


@pytest.mark.parametrize("first", [0, 64])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_neighbours_are_found_where_numbers_are_large_and_alike(offset, first):
    known = np.random.default_rng(0).standard_normal((200, 64)).astype(np.float32)
    known[first:] += np.float32(offset)
    found = qualitative.neighbours(known, known, 6)
    apart = ((known[:, None].astype(float) - known) ** 2).sum(2)
    assert (found[:, 0] == np.arange(200)).all() and (found == np.argsort(apart, 1)[:, :6]).mean() > 0.99


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_neighbours_of_one_who_asks_from_far_away_are_told_apart(kind):
    known = np.array([[0, 2], [0, 1], [0, 0]], kind)
    assert qualitative.neighbours(np.array([[1e4, 0]], kind), known, 3).tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_near_to_what_is_no_number(value):
    features = np.ones((3, 2), np.float32)
    bad = features.copy()
    bad[1, 1] = value
    for asked, known in ((bad, features), (features, bad)):
        with pytest.raises(ValueError, match="the features are not all finite"):
            qualitative.neighbours(asked, known, 2)
    alike = np.tile(np.arange(4, dtype=np.float32), (3, 1))  # every picture has the same
    for useless in (bad, features, alike, alike[:1] + [[0, 1, 0, 2]], alike[:0]):
        with pytest.raises(ValueError, match="must be finite, and not all alike"):
            qualitative.train_autoencoder(useless, 8)


def test_neighbours_of_pictures_are_found_in_pieces(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (60, 20, 20, 3), np.uint8)
    asked, known = images[:25], images[10:]
    pixels = partial(qualitative.pixel_features, crop=16)
    whole = qualitative.neighbours(pixels(asked), pixels(known))
    sizes = []
    monkeypatch.setattr(qualitative, "AT_ONCE", 8)
    found = qualitative.neighbours(asked, known, features=lambda few: sizes.append(len(few)) or pixels(few))
    np.testing.assert_array_equal(found, whole)
    assert max(sizes) == 8 and found[10:, 0].tolist() == list(range(15))


def test_precision_and_what_two_searches_share():
    labels, known = np.array([0, 1]), np.array([0, 0, 1, 1])
    assert qualitative.precision(np.array([[0, 2], [2, 3]]), labels, known) == 0.75
    assert qualitative.shared(np.array([[0, 2], [2, 3]]), np.array([[2, 1], [2, 3]])) == 0.75


@given(st.integers(1, 150), st.integers(0, 1000))
def test_packed_codes_keep_distances(bits, seed):
    generator = np.random.default_rng(seed)
    one, other = generator.random((2, 3, bits)) < 0.5
    a, b = qualitative.packed(one), qualitative.packed(other)
    assert a.dtype == np.uint64 and a.shape == (3, -(-bits // 64))
    np.testing.assert_array_equal(np.bitwise_count(a ^ b).sum(1), (one != other).sum(1))


def test_nearest_codes_are_those_with_fewest_other_bits():
    bits = np.random.default_rng(0).random((40, 70)) < 0.5
    asked = bits[:5].copy()
    asked[:, 0] ^= True
    found = qualitative.hamming_neighbours(qualitative.packed(asked), qualitative.packed(bits), 3)
    by_hand = [np.argsort((bits != query).sum(1), kind="stable")[:3] for query in asked]
    np.testing.assert_array_equal(found, by_hand)
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_an_autoencoder_learns_codes_that_keep_classes_together():
    known, known_labels = clusters(400)
    asked, labels = clusters(50, seed=1)
    net = qualitative.train_autoencoder(known, 16, epochs=12)
    found = qualitative.hamming_neighbours(qualitative.codes_of(net, asked), qualitative.codes_of(net, known))
    assert qualitative.precision(found, labels, known_labels) > 0.9
    again = qualitative.train_autoencoder(known, 16, epochs=12)
    codes = qualitative.codes_of(net, asked)
    np.testing.assert_array_equal(codes, qualitative.codes_of(again, asked))
    np.testing.assert_array_equal(codes[:8], qualitative.codes_of(net.train(), asked[:8]))
    np.testing.assert_array_equal(
        codes, qualitative.codes_of(net.eval(), asked)
    )  # and it has learned nothing from that


def test_training_codes_leaves_the_random_numbers_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    qualitative.train_autoencoder(clusters()[0], 8, epochs=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_random_planes_divide_alike_what_is_alike():
    known, known_labels = clusters(400)
    asked, labels = clusters(50, seed=1)
    found = qualitative.hamming_neighbours(*qualitative.random_codes(asked, known, 64))
    assert qualitative.precision(found, labels, known_labels) > 0.8


def test_hidden_features_are_the_layers_output():
    net = alexnet("paper", 4, width=0.05, image_size=64, seed=0).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 73, 73, 3), np.uint8)
    mean = torch.zeros(3, 64, 64)
    features = qualitative.hidden_features(net, images, mean)
    x = torch.from_numpy(images[:, 4:68, 4:68].copy()).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        logits = net(x)
        rest = net.fc8(0.5 * torch.from_numpy(features))  # dropout halves at test time
    assert features.min() >= 0 and torch.allclose(rest, logits, atol=1e-4)
    with pytest.raises(ValueError, match="layer = 'relu9'; the net has pad1, conv1"):
        qualitative.hidden_features(net, images, mean, "relu9")


def test_notebook_09_finds_the_place_that_an_answer_needs():
    """A net that only looks whether one pixel is white."""
    cells = {cell.id: cell.source for cell in nbformat.read(NOTEBOOKS / "09_qualitative.ipynb", 4).cells}

    def predict(net, images, mean):
        white = images[:, 50, 10, 0] / 255
        return torch.from_numpy(np.stack([1 - white, white], 1))

    names = {
        "np": np,
        "product": product,
        "predict": predict,
        "net": None,
        "mean": torch.full((3, 64, 64), 100.0),
        "crop": 64,
    }
    exec(cells["occlude"], names)
    image = np.full((64, 64, 3), 255, np.uint8)
    best, shown = names["occluded"](image)
    assert best == 1 and shown.shape == (13, 13) and image.min() == 255
    at = np.arange(0, 49, 4)  # the patch of 16 pixels covers (50, 10)
    covering = ((at > 34) & (at <= 50))[:, None] & (at <= 10)
    np.testing.assert_allclose(shown, np.where(covering, 100 / 255, 1))


def test_pixels_and_sizes():
    images = np.full((2, 73, 73, 3), 255, np.uint8)
    assert qualitative.pixel_features(images, 64).shape == (2, 64 * 64 * 3)
    assert MEASURES["bits_ratio"]("4096", "64") == 2048
