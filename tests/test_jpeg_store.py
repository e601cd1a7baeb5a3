"""§2: the store of JPEG files against the raw one of the same pictures: what is in it, how it is read, by what name."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alexnet_lib import load_dataset, open_store, prepare
from alexnet_lib.augmentation import cut_views, draw_views
from alexnet_lib.data import ilsvrc
from alexnet_lib.data.pieces import Rows
from alexnet_lib.dataset import choose_dataset
from alexnet_lib.evaluation import evaluate, mean_of
from alexnet_lib.loader import make_batches
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import build_net
from tests.small_ilsvrc import FEW, make_2012, wnids
from tests.small_runs import settings
from tests.test_dataset import jpeg, photograph

COUNT = 14


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    source = tmp_path_factory.mktemp("of") / "pictures"
    for i in range(COUNT):
        path = source / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(photograph(i, 90 + i, 80), quality=95) if i != 5 else b"no picture")
    return source


@pytest.fixture(scope="module")
def stores(pictures):
    """The raw store and that of JPEG."""
    return [prepare(pictures, pictures.parent / form, 73, progress=False, form=form) for form in ("raw", "jpeg")]


def test_the_same_pictures_in_less_room(stores):
    raw, small = stores
    assert small.meta["form"] == "jpeg" and "form" not in raw.meta
    assert len(small) == len(raw) == COUNT - 1 and small.classes == raw.classes and small.size == 73
    assert np.array_equal(small.labels, raw.labels) and np.array_equal(small.mean, raw.mean)
    assert small.index.equals(raw.index) and small.meta["rejected"] == raw.meta["rejected"]
    difference = np.abs(np.asarray(small.images).astype(int) - raw.images)
    assert difference.mean() < 5
    assert 4 * (small.folder / "images.jpegs").stat().st_size < (raw.folder / "images.npy").stat().st_size


ROWS = st.one_of(
    st.integers(-COUNT + 1, COUNT - 2),
    st.slices(COUNT - 1),
    st.lists(st.integers(-COUNT + 1, COUNT - 2), min_size=1, max_size=5),
    st.lists(st.booleans(), min_size=COUNT - 1, max_size=COUNT - 1).map(np.array),
)


@given(rows=ROWS, rest=st.sampled_from([(), (slice(2, 9),), (slice(None), slice(1, 4), 2), (3, 5)]))
@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_indices_are_those_of_an_array(stores, rows, rest):
    images, array = stores[1].images, np.asarray(stores[1].images)
    found = images[(rows, *rest)] if rest else images[rows]
    assert np.array_equal(np.asarray(found), array[(rows, *rest)])
    assert found.shape == array[(rows, *rest)].shape


def test_a_slice_reads_nothing(stores):
    part = stores[1].images[3:7]
    assert isinstance(part, Rows) and len(part) == 4 and part.shape == (4, 73, 73, 3)


def test_batches_and_errors_are_those_of_the_decoded_pictures(stores):
    small = stores[1]
    decoded = dataclasses.replace(small, images=np.asarray(small.images))
    run = resolve(settings(batch_size=5), small)
    mean = mean_of(small, run.image_size)
    for one, other in zip(*(make_batches(run, store, mean, 1) for store in (small, decoded)), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    net = build_net(run, 2)
    for views in (1, 10):
        assert evaluate(net, small, mean, views) == evaluate(net, decoded, mean, views)
    views = draw_views(np.random.default_rng(0), COUNT - 1, (9, 9))
    assert np.array_equal(cut_views(small.images, views, 64), cut_views(decoded.images, views, 64))


def test_the_two_forms_are_not_taken_for_each_other(stores, pictures):
    with pytest.raises(FileExistsError, match="was not prepared from these files"):
        prepare(pictures, stores[0].folder, 73, progress=False, form="jpeg")
    with pytest.raises(ValueError, match="form = 'png'; accepted are raw, jpeg"):
        prepare(pictures, pictures.parent / "other", 73, progress=False, form="png")


def test_by_name(tmp_path, pictures, monkeypatch):
    for split in ("train", "val"):
        shutil.copytree(pictures, tmp_path / "imagenette" / split)
    stores = load_dataset("imagenette-jpeg", tmp_path)
    assert {store.meta["form"] for store in stores.values()} == {"jpeg"}
    assert isinstance(open_store(tmp_path / "prepared" / "imagenette-jpeg-256" / "train").images, Rows)
    assert choose_dataset("auto", tmp_path)[0] == "imagenette-jpeg"


def test_imagenet_by_name(tmp_path, monkeypatch):
    for name, few in (("CLASSES", FEW), ("PER_CLASS", {"val": 2, "test": 3}), ("CLASSES_SHA256", {})):
        monkeypatch.setattr(ilsvrc, name, few)
    make_2012(tmp_path / "ilsvrc2012")
    stores = load_dataset("ilsvrc2012-jpeg", tmp_path)
    assert list(stores) == ["train", "val"] and stores["val"].classes == wnids()
    assert json.loads((tmp_path / "prepared/ilsvrc2012-jpeg-256/val/meta.json").read_text())["quality"] == 90
    assert load_dataset("ilsvrc2012-jpeg", tmp_path)["train"].images.shape == (2 * FEW, 256, 256, 3)
