"""The batches of a run: what is in them, with augmentation and without, and that they can be made ahead."""

import dataclasses
import hashlib
import json
import threading

import numpy as np
import pytest
import torch

from alexnet_lib.augmentation import AUGMENTATIONS, centre_crops, colour_shifts, cut_views, draw_views
from alexnet_lib.dataset import load_dataset
from alexnet_lib.evaluation import mean_of
from alexnet_lib.learning import recipe
from alexnet_lib.loader import ahead, make_batches
from alexnet_lib.runs.settings import resolve
from tests.small_runs import NAME, settings


@pytest.fixture
def store(place):
    return load_dataset(NAME)["train"]


def epoch_of(store, augmentation, epoch=2):
    """All inputs (N, crop, crop, 3) and labels (N,) of an epoch."""
    run = resolve(settings(augmentation=augmentation), store)
    inputs, labels = zip(*make_batches(run, store, mean_of(store, run.image_size), epoch), strict=True)
    return torch.cat(inputs).permute(0, 2, 3, 1).numpy(), torch.cat(labels).numpy()


def drawn(store, epoch=2):
    """What the epoch draws, in the order in which every run so far has drawn it."""
    generator, border = np.random.default_rng([0, epoch]), store.size - 64
    order = generator.permutation(len(store))
    return order, draw_views(generator, len(store), (border, border)), generator.standard_normal((len(store), 3))


def test_all_augmentation_is_crop_less_mean_plus_colour_divided(store):
    inputs, labels = epoch_of(store, "all")
    order, views, normals = drawn(store)
    named = recipe("small")
    assert (named.noise_std, named.noise_units) == (0.1, "code2012")
    crops = cut_views(store.images, views[order], 64, order) - centre_crops(store.mean[None], 64)
    shifts = colour_shifts(store.pca, normals[order])
    expected = (crops + shifts[:, None, None]) / np.float32(1.1)
    assert np.array_equal(labels, store.labels[order])
    np.testing.assert_allclose(inputs, expected, atol=1e-4)


def test_crops_alone_are_the_same_crops_without_colour(store):
    inputs, labels = epoch_of(store, "crops")
    order, views, _ = drawn(store)
    expected = cut_views(store.images, views[order], 64, order) - centre_crops(store.mean[None], 64)
    assert np.array_equal(inputs, expected) and np.array_equal(labels, store.labels[order])


def test_no_augmentation_is_centre_crops_in_the_same_order(store):
    inputs, labels = epoch_of(store, "none")
    order = drawn(store)[0]
    expected = centre_crops(store.images[order], 64) - centre_crops(store.mean[None], 64)
    assert np.array_equal(inputs, expected) and np.array_equal(labels, store.labels[order])
    again = epoch_of(store, "none", epoch=3)
    assert not np.array_equal(again[1], labels)  # still shuffled


def test_colours_alone_are_centre_crops_with_the_same_colours(store):
    inputs, labels = epoch_of(store, "colours")
    order, _, normals = drawn(store)
    shifts = colour_shifts(store.pca, normals[order])
    crops = centre_crops(store.images[order], 64) - centre_crops(store.mean[None], 64)
    assert np.array_equal(labels, store.labels[order])
    np.testing.assert_allclose(inputs, (crops + shifts[:, None, None]) / np.float32(1.1), atol=1e-4)


def test_default_runs_keep_the_names_from_before_there_was_a_choice(store):
    run = resolve(settings(), store)
    without = ("name", "experiment", "devices", "columns", "augmentation", "speed")
    decides = {k: v for k, v in dataclasses.asdict(run).items() if k not in without}
    digest = hashlib.sha256(json.dumps([decides, store.meta["fingerprint"]], sort_keys=True).encode()).hexdigest()
    assert run.name.endswith(digest[:8])
    names = {resolve(settings(augmentation=a), store).name for a in AUGMENTATIONS}
    assert len(names) == 4 and run.name in names


# ------------------------------------------------------------------------------------------------------ made ahead


def test_items_ahead_are_the_same_items():
    assert list(ahead(iter(range(50)))) == list(range(50))
    assert list(ahead(iter([]))) == []


def test_an_error_of_the_other_thread_surfaces_where_items_are_used():
    def failing():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    before, used = threading.active_count(), []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in ahead(failing()):
            used.append(item)
    assert used == [1, 2] and threading.active_count() == before


def test_no_more_than_asked_are_made_ahead():
    made = []
    data = ahead(made.append(i) or i for i in range(1, 50))
    assert next(data) == 1
    data.close()  # waits for the other thread
    assert len(made) <= 3


def test_no_thread_is_left_over_when_items_are_left_early():
    before = threading.active_count()
    for item in ahead(iter(range(1, 1000))):
        assert threading.active_count() == before + 1
        if item == 3:
            break
    del item
    assert threading.active_count() == before


def test_colours_alone_are_distorted_where_the_recipe_distorts(store):
    """GoogLeNet's: brightness, contrast and saturation, which no shift of the channels gives."""
    run = resolve(settings(augmentation="colours", recipe="googlenet", batch_size=48), store)
    mean = mean_of(store, run.image_size)
    inputs, _ = next(iter(make_batches(run, store, mean, 0)))
    plain, _ = next(iter(make_batches(dataclasses.replace(run, augmentation="none"), store, mean, 0)))
    assert (run.named.distorted, inputs.shape) == (True, plain.shape)
    assert (inputs * 1.1 - plain).std((2, 3)).median() > 1
