"""The built-in collection: what lies in data/embedded, and that the code in the library still draws it."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from alexnet_lib.data import embedded
from alexnet_lib.data.embedded import CLASSES, PLACING, USUAL_PAIRS, photograph, picture, plan, small_pictures, thing
from alexnet_lib.data.embedded_shapes import SILHOUETTES, SURFACES
from alexnet_lib.paths import REPOSITORY

FOLDER = REPOSITORY / "data" / "embedded"
PLAN = plan(FOLDER)


@pytest.fixture(scope="module")
def opened() -> list[tuple[tuple[int, int], str]]:
    """(width, height) and mode of every committed file, from the headers alone."""
    found = []
    for path in PLAN:
        with Image.open(path) as image:
            found.append((image.size, image.mode))
    return found


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.float32)


def test_classes_are_ordered_by_family_then_surface():
    assert len(CLASSES) == len(set(CLASSES)) == 24
    for f, family in enumerate(SILHOUETTES):
        for s, surface in enumerate(SURFACES):
            assert CLASSES[4 * f + s] == f"{surface} {family}"
    assert list(CLASSES) != sorted(CLASSES)


def test_colour_does_not_tell_the_class():
    wearers = Counter(pair for pairs in USUAL_PAIRS.values() for pair in pairs)
    assert len(wearers) == 6 and min(wearers.values()) >= 3
    assert all(len(set(pairs)) == len(SURFACES) for pairs in USUAL_PAIRS.values())


def test_committed_files_are_the_planned_ones():
    assert sorted(FOLDER.rglob("*.jpg")) == sorted(PLAN)
    folders = {name.replace(" ", "_") for name in CLASSES}
    for part in ("train", "val"):
        assert {folder.name for folder in (FOLDER / part).iterdir()} == folders


@pytest.mark.parametrize(("part", "each"), [("train", 84), ("val", 25)])
def test_committed_classes_are_balanced(part, each):
    counts = {folder.name: len(list(folder.glob("*.jpg"))) for folder in (FOLDER / part).iterdir()}
    assert set(counts.values()) == {each}
    assert (FOLDER / part / "striped_fish" / f"{each - 1:04d}.jpg").exists()


def test_collection_stays_below_eight_megabytes():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 8_000_000


def test_some_pictures_are_grey(opened):
    modes = Counter(mode for _, mode in opened)
    assert set(modes) == {"RGB", "L"}
    assert 0.02 < modes["L"] / len(PLAN) < 0.07


def test_sizes_and_shapes_vary_within_their_range(opened):
    sizes = np.array([size for size, _ in opened])
    shorter, aspect = sizes.min(1), sizes.max(1) / sizes.min(1)
    assert shorter.min() >= 72 and shorter.max() <= 160
    assert aspect.max() <= 1.8 * 73 / 72  # both sides are rounded down
    assert len(np.unique(shorter)) > 40 and aspect.std() > 0.1
    landscape = np.mean(sizes[:, 0] > sizes[:, 1])
    assert 0.55 < landscape < 0.69


def test_training_and_validation_have_no_picture_in_common():
    assert len({path.read_bytes() for path in PLAN}) == len(PLAN)


# A processor's float32 exp may differ in the last bit, so pixels are compared, and within a tolerance.
@pytest.mark.parametrize("index", [0, 250, 500, 750, 1000, 1250, 1500, 1750, 2015, 2016, 2300, 2615])
def test_code_draws_the_committed_picture(index, tmp_path):
    embedded.write_picture(index, tmp_path / "again.jpg")
    committed, drawn = pixels(PLAN[index]), pixels(tmp_path / "again.jpg")
    assert committed.shape == drawn.shape
    assert np.abs(committed - drawn).mean() < 2


def test_files_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "COUNTS", {"train": 20, "val": 4})
    monkeypatch.setattr(embedded, "cores", lambda: 2)
    embedded.main([str(tmp_path)])
    written = plan(tmp_path)
    assert len(written) == 24 == len(set(written)) and {*tmp_path.rglob("*.jpg")} == {*written}
    for index in range(0, 24, 6):
        embedded.write_picture(index, tmp_path / "alone.jpg")
        assert (tmp_path / "alone.jpg").read_bytes() == written[index].read_bytes()


def test_pictures_follow_from_their_seed():
    first = picture([3, 1], 5, 80, 100)
    assert first.shape == (80, 100, 3) and first.dtype == np.uint8
    assert np.array_equal(first, picture([3, 1], 5, 80, 100))
    assert not np.array_equal(first, picture([3, 2], 5, 80, 100))
    assert not np.array_equal(first, picture([3, 1], 6, 80, 100))


def test_small_pictures_follow_from_their_seed():
    images, labels = small_pictures(0, 48, size=24)
    assert images.shape == (48, 24, 24, 3) and images.dtype == np.uint8
    assert labels.shape == (48,) and labels.dtype == np.int64
    assert np.array_equal(np.bincount(labels), np.full(24, 2))
    again, same_labels = small_pictures(0, 48, size=24)
    assert np.array_equal(images, again) and np.array_equal(labels, same_labels)
    others, _ = small_pictures(1, 48, size=24)
    assert not (images[:, None] == others[None]).all((2, 3, 4)).any()


@pytest.mark.parametrize("family", SILHOUETTES)
def test_mirrored_things_are_as_likely(family):
    """A fish looks to either side equally often, so a flipped picture still belongs to its class."""
    count = 200
    _, cover = thing(np.random.default_rng(4), count, 32, 32, family, "striped", PLACING)
    lean = cover[:, :, 16:].mean((1, 2)) - cover[:, :, :16].mean((1, 2))
    assert abs(lean.mean()) < 4 * lean.std() / np.sqrt(count)
    # Faces look to both sides: the skewness of the columns' profile has both signs.
    columns = np.arange(32) - 15.5
    weight = cover.sum(1) / cover.sum((1, 2))[:, None]
    centre = (weight * columns).sum(1, keepdims=True)
    skew = (weight * (columns - centre) ** 3).sum(1)
    assert 0.35 < np.mean(skew > 0) < 0.65


@pytest.mark.parametrize("surface", SURFACES)
def test_a_thing_shows_both_colours_of_its_pair_and_an_outline(surface):
    colour, cover = thing(np.random.default_rng(5), 6, 64, 64, "jar", surface, PLACING)
    assert colour.shape == (6, 64, 64, 3) and cover.shape == (6, 64, 64)
    assert cover.min() == 0 and cover.max() == 1
    assert 0.1 < cover.mean() < 0.7
    for one, inside in zip(colour, cover == 1, strict=True):
        assert one[inside].std(0).max() > 0.1


def test_radii_fall_with_the_inverse_cube():
    radius = embedded.radii(np.random.default_rng(6), 20_000, 1, 100)
    assert radius.min() >= 1 and radius.max() <= 100
    # A density r^-3 leaves a quarter of the shapes beyond twice the smallest radius.
    assert np.mean(radius > 2) == pytest.approx(1 / 4, abs=0.01)
    assert np.mean(radius > 4) == pytest.approx(1 / 16, abs=0.01)
    assert radius[:2000].mean() > 2 * radius[-2000:].mean()


def test_grounds_have_edges_and_neighbours_alike():
    """As in photographs, neighbouring pixels agree, and differences are rare but large (heavy tails)."""
    ground, _ = embedded.dead_leaves(np.random.default_rng(7), 128, 128, 96, large=14, small=100)
    grey = ground.mean(-1)
    step = np.diff(grey, axis=1).ravel()
    assert np.corrcoef(grey[:, 1:].ravel(), grey[:, :-1].ravel())[0, 1] > 0.8
    assert np.mean((step - step.mean()) ** 4) / step.var() ** 2 > 6  # 3 for a normal distribution


def test_a_camera_clips():
    taken = photograph(np.random.default_rng(8), np.full((2, 16, 16, 3), 9, np.float32))
    assert taken.dtype == np.uint8 and taken.min() > 200


@pytest.mark.parametrize("label", [-1, 24])
def test_a_label_outside_the_classes_is_refused(label):
    with pytest.raises(ValueError, match=rf"label is {label}; accepted are 0 to 23"):
        picture(0, label, 80, 80)


@pytest.mark.parametrize("side", [0, -5, 15, 513])
def test_a_size_outside_the_range_is_refused(side):
    accepted = f"is {side}; accepted are 16 to 512"
    with pytest.raises(ValueError, match=f"height {accepted}"):
        picture(0, 0, side, 80)
    with pytest.raises(ValueError, match=f"width {accepted}"):
        picture(0, 0, 80, side)
    with pytest.raises(ValueError, match=f"size {accepted}"):
        small_pictures(0, 24, size=side)


def test_no_pictures_at_all_are_refused():
    with pytest.raises(ValueError, match="count is 0; accepted are positive"):
        small_pictures(0, 0)
