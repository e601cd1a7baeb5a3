"""GoogLeNet's augmentation: crops of any size and shape, distorted colours, 144 views."""

import numpy as np
import pytest
from PIL import Image

from alexnet_lib.distortions import (
    AREA,
    AREAS,
    ASPECT,
    FILTERS,
    cut_areas,
    distort,
    draw_areas,
    draw_distortions,
    many_views,
    scales_for,
)


def pictures(count=2, side=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.parametrize("size", [(10, 1000), (1000, 10), (0, 10)])
def test_a_picture_that_no_crop_fits_into_is_refused(size):
    with pytest.raises(ValueError, match="accepted are sides less than 16.7 : 1"):
        draw_areas(np.random.default_rng(0), 3, size)


@pytest.mark.parametrize("size", [(73, 73), (60, 100)])
def test_areas_are_within_their_ranges_and_inside_the_picture(size):
    areas = draw_areas(np.random.default_rng(0), 4000, size)
    share = areas.height * areas.width / (size[0] * size[1])
    aspect = areas.width / areas.height
    assert AREA[0] <= share.min() < 0.09 and share.max() <= AREA[1]
    assert share.max() > (0.95 if size[0] == size[1] else 0.75)
    assert ASPECT[0] <= aspect.min() < 0.76 and 1.32 < aspect.max() <= ASPECT[1]
    assert (areas.top >= 0).all() and (areas.top + areas.height <= size[0]).all()
    assert (areas.left >= 0).all() and (areas.left + areas.width <= size[1]).all()
    assert abs(areas.mirrored.mean() - 0.5) < 0.03
    assert (np.bincount(areas.filter, minlength=4) > 900).all()


def whole(count, side, mirrored=False, filter_=0):
    zero, full = np.zeros(count), np.full(count, float(side))
    columns = [zero, zero, full, full, np.full(count, mirrored), np.full(count, filter_)]
    return np.rec.fromarrays(columns, names=AREAS)


@pytest.mark.parametrize("filter_", range(len(FILTERS)))
def test_a_crop_of_everything_at_its_size_is_the_picture(filter_):
    images = pictures()
    assert np.array_equal(cut_areas(images, whole(2, 40, filter_=filter_), 40), images)
    mirrored = cut_areas(images, whole(2, 40, True, filter_), 40)
    assert np.array_equal(mirrored, images[:, :, ::-1])


def test_rows_pick_images():
    images, areas = pictures(5), draw_areas(np.random.default_rng(0), 5, (40, 40))
    some = cut_areas(images, areas[[3, 1]], 24, [3, 1])
    assert np.array_equal(some, cut_areas(images, areas, 24)[[3, 1]])


def test_factors_of_one_change_nothing_and_others_do_what_they_say():
    image = pictures(1)
    assert np.array_equal(distort(image, np.array([[1, 1, 1, 4]])), image)
    dark = distort(image, np.array([[0.5, 1, 1, 0]]))
    assert np.abs(dark - image / 2).max() <= 0.5
    grey = distort(image, np.array([[1, 1, 0, 0]])).astype(float)
    assert np.ptp(grey, axis=3).max() <= 1
    flat = distort(image, np.array([[1, 0, 1, 0]]))
    assert np.ptp(flat) == 0


def test_the_order_matters():
    image = pictures(1)
    results = {distort(image, np.array([[1.5, 0.6, 1.4, order]])).tobytes() for order in range(6)}
    assert len(results) >= 3
    drawn = draw_distortions(np.random.default_rng(0), 3000)
    assert (np.bincount(drawn[:, 3].astype(int)) > 400).all() and drawn[:, :3].min() >= 0.5 > drawn[:, :3].min() - 0.01


def test_144_views():
    assert scales_for(224) == (256, 288, 320, 352) and scales_for(64) == (73, 82, 91, 101)
    picture = np.random.default_rng(0).integers(0, 256, (30, 45, 3), np.uint8)
    views = many_views(picture, 24)
    assert views.shape == (144, 24, 24, 3)
    assert np.array_equal(views[1::2], views[::2, :, ::-1])
    scaled = np.asarray(Image.fromarray(picture).resize((round(45 * 27 / 30), 27), Image.Resampling.BICUBIC))
    assert np.array_equal(views[0], scaled[:24, :24])
    assert np.array_equal(views[8], scaled[1:25, 1:25])
    assert np.array_equal(views[12 + 8], scaled[1:25, 6 + 1 : 6 + 25])
    assert np.array_equal(many_views(picture[:, :30], 24)[:12], many_views(picture[:, :30], 24)[12:24])


def test_an_upright_picture_is_cut_along_its_height():
    picture = np.mgrid[:45, :30, :3].sum(0).astype(np.uint8) * 2
    upright, lying = many_views(picture, 24), many_views(picture.transpose(1, 0, 2).copy(), 24)
    assert np.abs(upright[8].astype(int) - lying[8].transpose(1, 0, 2)).max() <= 1
