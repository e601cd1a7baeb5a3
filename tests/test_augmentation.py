"""§4.1: crops, reflections, colour noise and its units, ten views."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_lib import add_colour_noise, colour_pca, random_crops, ten_views
from alexnet_lib.augmentation import (
    COPIED_EIGENVALUES,
    IMAGENET_PCA,
    NOISE_UNITS,
    VIEWS,
    centre_crops,
    centre_views,
    colour_shifts,
    cut_views,
    draw_views,
    in_light,
    offset_count,
    recoloured,
    views_drawn,
    views_of,
)
from alexnet_lib.colours import colour_products
from alexnet_lib.figures.dataset import axis_names, directions


def numbered(count=3, height=9, width=9):
    """Images in which every pixel says where it is: red its row, green its column, blue its image."""
    images = np.zeros((count, height, width, 3), np.uint8)
    images[..., 0] = np.arange(height)[:, None]
    images[..., 1] = np.arange(width)
    images[..., 2] = np.arange(count)[:, None, None]
    return images


def test_views_of_the_paper_and_of_the_program():
    assert 2 * offset_count(32, "printed") ** 2 == 2048
    assert 2 * offset_count(32, "code2012") ** 2 == 2178


def test_views_that_are_drawn():
    assert (views_drawn(), views_drawn(offsets="printed")) == (2178, 2048)
    assert views_drawn(3) == 2 * 4**2


def test_centre_views_are_centre_crops():
    images = numbered(3, 10, 9)
    assert np.array_equal(cut_views(images, centre_views(3, (5, 4)), 5), centre_crops(images, 5))
    assert centre_crops(numbered(1, 9, 19), 5)[0, 0, 0, :2].tolist() == [2, 7]


def test_crops_fall_everywhere_in_a_wide_picture():
    lefts = {
        int(crop[0, :, 1].min()) for crop in random_crops(numbered(200, 9, 19), 5, generator=np.random.default_rng(0))
    }
    assert lefts == set(range(15))


def test_one_view_is_the_centre_and_nine_are_a_grid():
    images = numbered(1, 9, 9)  # whose pixels say where they are
    begins = {count: views_of(images, 5, VIEWS[count])[0, :, 0, 0, :2].tolist() for count in (1, 9)}
    assert begins == {1: [[2, 2]], 9: [[top, left] for top in (0, 2, 4) for left in (0, 2, 4)]}


def test_crops_are_of_224_pixels_unless_told_otherwise():
    images = np.zeros((1, 256, 250, 3), np.uint8)
    assert random_crops(images).shape == centre_crops(images).shape == (1, 224, 224, 3)
    assert ten_views(images).shape == (1, 10, 224, 224, 3)


def test_views_of_arrays_that_torch_cannot_share():
    images, views = numbered(40), draw_views(np.random.default_rng(0), 40, (4, 4))
    locked = images.copy()
    locked.flags.writeable = False
    expected = cut_views(images, views, 5)
    assert np.array_equal(cut_views(locked, views, 5), expected)
    assert np.array_equal(cut_views(images[..., ::-1], views, 5), expected[..., ::-1])


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 9),
    height=st.integers(9, 12),
    width=st.integers(9, 12),
    offsets=st.sampled_from(["code2012", "printed"]),
)
@settings(max_examples=80)
def test_a_crop_is_a_window_or_its_mirror_image(seed, size, height, width, offsets):
    images = numbered(4, height, width)
    crops = random_crops(images, size, offsets, np.random.default_rng(seed))
    assert crops.shape == (4, size, size, 3) and crops.dtype == np.uint8
    for i, crop in enumerate(crops):
        top, left = crop[0, 0, 0], crop[0, :, 1].min()
        window = images[i, top : top + size, left : left + size]
        assert np.array_equal(crop, window) or np.array_equal(crop, window[:, ::-1])


def seen_places(offsets):
    images = numbered(4000, 7, 7)
    crops = random_crops(images, 4, offsets, np.random.default_rng(0))
    corners = np.stack([crops[:, 0, 0, 0], crops[:, 0, :, 1].min(1), crops[:, 0, 0, 1] > crops[:, 0, 1, 1]], 1)
    return np.unique(corners, axis=0, return_counts=True)


@pytest.mark.parametrize(("offsets", "places"), [("code2012", 4), ("printed", 3)])
def test_every_place_comes_up_equally_often(offsets, places):
    corners, counts = seen_places(offsets)
    assert len(corners) == 2 * places**2 and corners[:, :2].max() == places - 1
    expected = 4000 / len(corners)
    assert ((counts - expected) ** 2 / expected).sum() < 2 * len(corners)  # χ², far beyond the 1 % point


def test_seeds_and_generators_of_either_kind():
    images = numbered(50)
    first, again, other = (random_crops(images, 5, generator=np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    torches = [random_crops(torch.from_numpy(images), 5, generator=torch.Generator().manual_seed(1)) for _ in "ab"]
    assert isinstance(torches[0], torch.Tensor) and torch.equal(*torches)
    assert isinstance(random_crops(images, 5), np.ndarray)


@pytest.mark.parametrize(
    ("images", "size", "offsets", "message"),
    [
        (numbered().astype(np.float32), 5, "code2012", "float32"),
        (numbered()[0], 5, "code2012", r"\(9, 9, 3\); accepted are \(N, H, W, 3\)"),
        (numbered(), 10, "code2012", "size = 10 for images of 9 × 9"),
        (numbered(), 5, "torch", "offsets = 'torch'; accepted are code2012, printed"),
    ],
)
def test_what_cannot_be_cropped_is_refused(images, size, offsets, message):
    with pytest.raises(ValueError, match=message):
        random_crops(images, size, offsets)


def test_ten_views_are_five_and_their_reflections():
    views = ten_views(numbered(2, 9, 9), 5)
    assert views.shape == (2, 10, 5, 5, 3) and views.dtype == np.uint8
    assert views[1, :5, 0, 0, :2].tolist() == [[0, 0], [0, 4], [4, 0], [4, 4], [2, 2]]
    assert np.array_equal(views[:, 5:], views[:, :5, :, ::-1])


@pytest.fixture(scope="module")
def coloured():
    generator = np.random.default_rng(5)
    mixed = generator.normal(size=(6, 20, 20, 3)) @ np.array([[40, 38, 35], [0, -9, 9], [3, -1, -2.0]])
    images = (mixed + 120).clip(0, 255).astype(np.uint8)
    return images, colour_pca(images)


def test_principal_axes_are_those_of_the_covariance(coloured):
    images, pca = coloured
    covariance = np.cov(images.reshape(-1, 3).astype(np.float64).T, bias=True)
    np.testing.assert_allclose(pca.eigenvectors * pca.eigenvalues @ pca.eigenvectors.T, covariance, rtol=1e-9)
    np.testing.assert_allclose(pca.eigenvectors.T @ pca.eigenvectors, np.eye(3), atol=1e-12)
    assert (np.diff(pca.eigenvalues) <= 0).all()
    assert (np.abs(pca.eigenvectors).max(0) == pca.eigenvectors.max(0)).all()


@pytest.mark.parametrize("shape", [(256, 256), (3, 255), (2, 1000), (700, 2), (1, 1)])
def test_sums_of_colours_are_exact_up_to_white(shape):
    low = np.random.default_rng(0).integers(250, 256, (*shape, 3), np.uint8)
    for image in (low, np.full_like(low, 255)):
        pixels = image.reshape(-1, 3).astype(np.int64)
        assert np.array_equal(colour_products(image), pixels.T @ pixels)


def test_noise_is_one_colour_for_the_whole_image(coloured):
    images, pca = coloured
    for units in NOISE_UNITS:
        divisor = 1.1 if units == "code2012" else 1.0
        noisy = add_colour_noise(images, pca, units=units, generator=np.random.default_rng(0))
        assert noisy.dtype == np.float32 and noisy.shape == images.shape
        shift = noisy * divisor - images
        assert np.ptp(shift, axis=(1, 2)).max() < 1e-3 * max(1, np.abs(shift).max())


def test_each_picture_of_a_batch_has_a_colour_of_its_own(coloured):
    images, pca = coloured
    drawn = np.random.default_rng(0).standard_normal((len(images), 3))
    noisy = add_colour_noise(images, pca, units="deviation", generator=np.random.default_rng(0))
    expected = images + colour_shifts(pca, drawn, units="deviation")[:, None, None]
    np.testing.assert_allclose(noisy, expected, rtol=1e-6, atol=1e-4)


def test_noise_of_no_strength_changes_nothing(coloured):
    images, pca = coloured
    assert np.array_equal(add_colour_noise(images, pca, std=0.0), images)


def test_shifts_are_the_sum_over_the_axes_in_each_unit(coloured):
    pca, normals = coloured[1], np.random.default_rng(0).standard_normal((50, 3))
    sizes = {"code2012": np.sqrt(pca.eigenvalues), "printed": pca.eigenvalues, "torch": pca.eigenvalues / 255}
    sizes["deviation"] = sizes["code2012"]
    for units, size in sizes.items():
        summed = sum(0.1 * normals[:, [i]] * size[i] * pca.eigenvectors[:, i] for i in range(3))
        assert np.allclose(colour_shifts(pca, normals, units=units), summed, rtol=1e-5, atol=1e-7)


def test_units_of_the_noise(coloured):
    """Each reading's deviation along the first axis, in grey levels."""
    pca = coloured[1]
    normals = np.random.default_rng(0).standard_normal((50_000, 3))
    first = {u: (colour_shifts(pca, normals, 0.1, u) @ pca.eigenvectors[:, 0]).std() for u in NOISE_UNITS}
    largest = pca.eigenvalues[0]
    assert first["deviation"] == first["code2012"] == pytest.approx(0.1 * largest**0.5, rel=0.02)
    assert first["printed"] == pytest.approx(0.1 * largest, rel=0.02)
    assert first["torch"] == pytest.approx(255 * 0.1 * largest / 255**2, rel=0.02)


def test_noise_as_in_2012_has_a_tenth_of_the_deviation_of_the_pixels(coloured):
    images, pca = coloured
    shifts = colour_shifts(pca, np.random.default_rng(0).standard_normal((100_000, 3)), 0.1, "deviation")
    np.testing.assert_allclose(shifts.std(0), 0.1 * images.reshape(-1, 3).std(0), rtol=0.02)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_noise_on_one_picture_is_that_of_a_batch_of_one(coloured, kind):
    images, pca = coloured
    alone, batch = (add_colour_noise(kind(x), pca, generator=np.random.default_rng(3)) for x in (images[0], images[:1]))
    assert alone.shape == images[0].shape and type(alone) is type(batch)
    np.testing.assert_array_equal(alone, batch[0])


def test_noise_on_mirrored_pictures_is_that_on_copies_of_them(coloured):
    images, pca = coloured
    for mirrored in (images[:, :, ::-1], images[0, ::-1], images[0, :, ::-1, ::-1].astype(np.float64)[..., ::-1]):
        noisy, expected = (
            add_colour_noise(x, pca, generator=np.random.default_rng(3)) for x in (mirrored, mirrored.copy())
        )
        assert np.array_equal(noisy, expected) and not np.array_equal(noisy, mirrored)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_noise_on_no_pictures_is_no_pictures(coloured, kind):
    images, pca = coloured
    none = add_colour_noise(kind(images[:0]), pca)
    assert tuple(none.shape) == (0, 20, 20, 3) and type(none) is type(kind(images))


@pytest.mark.parametrize("shape", [(9, 9), (2, 3, 9, 9), (2, 9, 9, 1), (2, 9, 9, 4), (1, 2, 9, 9, 3)])
def test_images_of_other_shapes_are_refused(coloured, shape):
    images = np.zeros(shape, np.uint8)
    calls = [lambda: add_colour_noise(images, coloured[1]), lambda: centre_crops(images, 2)]
    calls += [lambda: recoloured(images, 0.0, coloured[1], np.zeros((len(images), 3)))]
    for call in calls + [lambda: colour_pca(images)] * (len(shape) != 3):
        with pytest.raises(ValueError, match="accepted are"):
            call()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (numbered()[0], r"shape \(9, 3\)"),
        (numbered()[:0], "of 0 pixels"),
        (numbered()[:, :0], r"shape \(0, 9, 3\)"),
        (np.full((1, 4, 4, 3), np.nan), "finite"),
    ],
)
def test_colours_of_nothing_or_of_one_picture_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        colour_pca(images)


def test_the_centre_of_what_is_too_small_is_refused():
    with pytest.raises(ValueError, match="size = 10 for images of 9 × 9"):
        centre_crops(numbered(), 10)


@pytest.mark.parametrize("std", [-1.0, np.nan, np.inf])
def test_impossible_strengths_are_refused(coloured, std):
    with pytest.raises(ValueError, match=f"std = {std}; accepted are finite"):
        add_colour_noise(*coloured, std=std)


def test_unknown_units_are_refused(coloured):
    with pytest.raises(ValueError, match="units = 'levels'; accepted are code2012, deviation, printed, torch"):
        add_colour_noise(*coloured, units="levels")


def test_tensors_come_back_as_tensors(coloured):
    images, pca = coloured
    noisy = add_colour_noise(torch.from_numpy(images), pca, generator=torch.Generator().manual_seed(0))
    assert isinstance(noisy, torch.Tensor) and noisy.dtype == torch.float32


def test_axes_of_imagenet():
    """With deviations the channels come out as those of photographs do; the constants in circulation are variances."""
    axes, sizes = IMAGENET_PCA.eigenvectors, np.sqrt(IMAGENET_PCA.eigenvalues)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=2e-3)
    np.testing.assert_allclose(np.sqrt(((axes * sizes) ** 2).sum(1)), [74.0, 72.0, 77.0], atol=0.2)
    np.testing.assert_allclose(COPIED_EIGENVALUES, IMAGENET_PCA.eigenvalues / 255**2, rtol=0.3)


def test_pictures_with_noise(coloured):
    images, pca = coloured
    silent = np.zeros((len(images), 3))
    assert np.array_equal(recoloured(images, 100.0, pca, silent, units="deviation"), images)
    paler = recoloured(images, 100.0, pca, silent, units="code2012")
    np.testing.assert_allclose(paler, (images - 100.0) / 1.1 + 100, atol=0.51)
    up = recoloured(images[:1], 100.0, pca, [[1, 0, 0]], 0.1, "deviation").astype(float) - images[0]
    np.testing.assert_allclose(
        np.median(up[0], axis=(0, 1)), 0.1 * pca.eigenvalues[0] ** 0.5 * pca.eigenvectors[:, 0], atol=0.51
    )


def test_another_light_multiplies_and_clips():
    images = np.array([[[[100, 100, 100], [200, 0, 255]]]], np.uint8)
    assert in_light(images, (1.5, 1, 0.5)).tolist() == [[[[150, 100, 50], [255, 0, 128]]]]
    assert in_light(images, (1, 1, 1)).dtype == np.uint8 and np.array_equal(in_light(images, (1, 1, 1)), images)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_shifts_of_other_images_are_refused(count):
    images = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=rf"shifts are \({count}, 3\) for 4 images"):
        add_colour_noise(images, IMAGENET_PCA, shifts=torch.ones(count, 3))


def test_shifts_are_taken_as_they_are_given():
    images = np.full((4, 8, 8, 3), 100, np.uint8)
    shifts = colour_shifts(IMAGENET_PCA, np.random.default_rng(0).standard_normal((4, 3)), units="deviation")
    noisy = add_colour_noise(images, IMAGENET_PCA, units="deviation", shifts=shifts)
    assert np.allclose(noisy[:, 0, 0], 100 + shifts, atol=1e-4)


def test_an_axis_of_colour_is_named_where_it_is_imagenets():
    assert axis_names(IMAGENET_PCA, IMAGENET_PCA) == ["light", "warm to cold", "magenta to green"]
    turned = IMAGENET_PCA.eigenvectors[:, [0, 2, 1]]
    other = replace(IMAGENET_PCA, eigenvectors=turned, eigenvalues=np.array([9000.0, 100.0, 0.0]))
    names = axis_names(other, IMAGENET_PCA)
    assert names[0] == "light" and names[1] == directions(other)[1] and names[2] == "none: λ ≈ 0"
    assert "R " in names[1] and "G " in names[1]
