"""Whole pictures read ahead by threads: the same bytes, the same batches, nothing left over."""

import dataclasses
import os
import threading

import numpy as np
import pytest
import torch

from alexnet_lib import loader
from alexnet_lib.augmentation import cut_views, draw_views
from alexnet_lib.data import reading
from alexnet_lib.data.pieces import Rows
from alexnet_lib.data.reading import place_in_file, whole_pictures
from alexnet_lib.dataset import load_dataset
from alexnet_lib.evaluation import mean_of
from alexnet_lib.loader import in_memory, make_batches
from alexnet_lib.runs.job import Job
from alexnet_lib.runs.settings import resolve
from tests.small_runs import NAME, settings


@pytest.fixture
def store(place):
    return load_dataset(NAME)["train"]


def shuffled(count=48, size=7):
    order = np.random.default_rng(0).permutation(count)
    return [order[start : start + size] for start in range(0, count, size)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["file", "rows", "memory"])
def test_pictures_are_those_of_the_rows(store, monkeypatch, threads, kind):
    rows = np.arange(1, 48, 2)
    images = {"file": store.images, "rows": Rows(store.images, rows), "memory": np.array(store.images)}[kind]
    parts, before = shuffled(len(images)), threading.active_count()
    if kind == "rows":  # of which the file is read, too
        monkeypatch.setattr(reading, "_index", None)
    read = whole_pictures(images, parts, path=store.folder / "images.npy", threads=threads)
    for part, pixels in zip(parts, read, strict=True):
        assert np.array_equal(pixels, images[part])
    assert threading.active_count() == before


def test_where_pictures_begin_is_known_only_of_a_map(store):
    whole = np.fromfile(store.folder / "images.npy", np.uint8)
    for images in (store.images, store.images[3:20]):
        start = place_in_file(images)
        assert np.array_equal(whole[start : start + images.size], images.reshape(-1))
    assert all(place_in_file(x) is None for x in (store.images[::2], np.array(store.images), Rows(store.images, [1])))


def test_another_file_than_the_one_of_the_map_is_not_read(place):
    stores = load_dataset(NAME)
    read = whole_pictures(stores["train"].images, shuffled(), path=stores["val"].folder / "images.npy")
    for part, pixels in zip(shuffled(), read, strict=True):
        assert np.array_equal(pixels, stores["train"].images[part])


def test_nothing_is_left_over_when_pictures_are_left_early(store):
    before = threading.active_count()
    read = whole_pictures(store.images, shuffled(), path=store.folder / "images.npy")
    next(read)
    read.close()
    assert threading.active_count() == before


def test_a_file_that_has_become_shorter_is_an_error_and_no_noise(store):
    with open(store.folder / "images.npy", "r+b") as file:
        file.truncate(40 * 73 * 73 * 3)
    with pytest.raises(EOFError, match="picture 4[0-9] of a store is not there"):
        list(whole_pictures(store.images, shuffled(), path=store.folder / "images.npy"))


def test_what_a_disk_gives_in_parts_is_read_to_its_end(store, monkeypatch):
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, parts, at: whole(file, [parts[0][:5000]], at))
    read = whole_pictures(store.images, shuffled(), path=store.folder / "images.npy", threads=2)
    for part, pixels in zip(shuffled(), read, strict=True):
        assert np.array_equal(pixels, store.images[part])


@pytest.mark.parametrize("augmentation", ["all", "none"])
@pytest.mark.parametrize("kind", ["disk", "spread", "card"])
def test_batches_from_whole_pictures_are_the_same_bits(store, augmentation, kind):
    run = resolve(settings(augmentation=augmentation), store)
    if kind == "spread":
        store = store.spread(31)
    mean, plain = mean_of(store, run.image_size), store
    if kind == "card":
        store = in_memory({"train": store}, "cpu:0")["train"]  # as onto a card, since it is not called "cpu"
        assert isinstance(store.images, torch.Tensor)
    batches = [make_batches(run, own, mean, 1, 1, threads=n) for own, n in ((plain, 0), (store, 2))]
    for one, other in zip(*batches, strict=True):
        assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(one, other, strict=True))


def test_a_gather_cuts_what_the_slices_cut():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (9, 12, 12, 3), np.uint8)
    rows = generator.integers(0, 9, 20)
    views = draw_views(generator, 20, (4, 4))
    cut = cut_views(torch.from_numpy(images), views, 8, rows)
    assert cut.is_contiguous() and np.array_equal(cut, cut_views(images, views, 8, rows))


def test_columns_that_exchange_their_parts_do_it_in_one_thread(store, monkeypatch):
    """Messages of two threads may come in another order than the other column's."""
    monkeypatch.setattr(loader, "ahead", lambda made: "ahead")
    run = dataclasses.replace(resolve(settings(recipe="googlenet"), store), device="cuda:0")
    mean = mean_of(store, run.image_size)
    assert loader.batches(run, store, mean, 0) == "ahead"
    assert loader.batches(run, store, mean, 0, job=Job(columns=2)) != "ahead"


def test_two_columns_cut_an_image_once(store):
    """Each cuts its part of a batch; what both have then is what one process cuts."""
    run, cut = resolve(settings(batch_size=13, augmentation="crops"), store), {0: [], 1: []}
    mean = mean_of(store, run.image_size)

    class Column(Job):
        def every_part(self, values, count):
            cut[self.column].append(values)
            return values.repeat(2, 1, 1, 1)[:1].expand(count, -1, -1, -1)

    for column in cut:
        list(make_batches(run, store, mean, 0, job=Column(column=column, columns=2)))
    back = mean.permute(1, 2, 0)
    for one, other, (x, _) in zip(*cut.values(), make_batches(run, store, mean, 0), strict=True):
        assert abs(len(one) - len(other)) <= 1
        torch.testing.assert_close(torch.cat([one, other]).float(), x.permute(0, 2, 3, 1) + back)
