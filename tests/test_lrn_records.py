"""§3.3's claim on CIFAR-10: what was kept becomes a table and a gain, for any set of records."""

import math
import shutil

import numpy as np
import pytest

from alexnet_lib.experiments.lrn_records import (
    LRN_NETS,
    LRN_PAIRS,
    lrn_curves,
    lrn_error,
    lrn_gain,
    lrn_gains,
    lrn_table,
)
from alexnet_lib.figures.responses import gains_by_epoch
from alexnet_lib.files import write_json
from alexnet_lib.runs.records import write_table

WITHOUT, FIRST, FINAL = LRN_NETS
VIEWS = ("1 view", "9 shifts", "10 views")


def keep(folder, net, epochs, seed, error, fit=(1.0,), **changes):
    """A record as `lrn` keeps it, with this error for one view and a point less for each other way to look.

    fit: what it errs on the training crops, epoch by epoch; on the test images `error` after every epoch.
    """
    place = folder / f"lrn-{net}-{epochs}epochs-seed{seed}"
    place.mkdir(parents=True)
    errors = {views: {"top1": error - 0.01 * i} for i, views in enumerate(VIEWS)}
    about = {"epochs": epochs, "seed": seed, "parameters": 1, "lossy_pictures": True}
    about |= {"versions": {"torch": "2.9.0"}, "commit": None}
    about |= {"metrics": {"val": errors}, "classes": 10, "dataset": {}, "images": {}}
    write_json(place / "summary.json", about)
    chosen = {"net": net, "dataset": "cifar10", "precision": "bf16", "image_size": 32, "seed": seed}
    write_json(place / "config.json", chosen | changes)
    top1 = [{"train": train, "val": error} for train in fit]
    top1 += top1[-1:] * (epochs - len(top1))
    history = [
        {"epoch": i, "split": split, "loss": 1.0, "top1": row[split]} for i, row in enumerate(top1, 1) for split in row
    ]
    write_table(place / "history.csv", history)
    write_table(place / "timing.csv", [{"epoch": 1}])


def test_no_record_gives_an_empty_table_and_no_gain(tmp_path):
    assert len(lrn_table(tmp_path)) == len(lrn_table(tmp_path / "nowhere")) == 0
    mean, spread, seeds = lrn_gain("1 view", "clean", 20, tmp_path)
    assert math.isnan(mean) and math.isnan(spread) and seeds == len(lrn_gains(tmp_path)) == 0
    assert lrn_error(WITHOUT, "1 view", 20, tmp_path)[2] == 0


@pytest.mark.parametrize("asked", [("2 views", "clean"), ("1 view", "dirty")])
def test_a_gain_that_nobody_measures_is_an_error(asked):
    with pytest.raises(ValueError, match="accepted are 1 view, 9 shifts, 10 views of clean, published"):
        lrn_gain(*asked, 20)


def test_one_seed_has_a_gain_and_no_spread(tmp_path):
    keep(tmp_path, WITHOUT, 20, 0, 0.20)
    assert lrn_gain("1 view", "clean", 20, tmp_path)[2] == 0  # the other net is missing
    keep(tmp_path, FIRST, 20, 0, 0.17)
    mean, spread, seeds = lrn_gain("1 view", "clean", 20, tmp_path)
    assert mean == pytest.approx(3) and math.isnan(spread) and seeds == 1
    assert lrn_gain("1 view", "published", 20, tmp_path)[2] == 0


def test_gains_are_paired_by_seed_and_of_one_schedule(tmp_path):
    for seed, error in enumerate((0.20, 0.21, 0.25)):
        keep(tmp_path, WITHOUT, 20, seed, error)
    for seed, error in enumerate((0.18, 0.18)):
        keep(tmp_path, FIRST, 20, seed, error)
    keep(tmp_path, WITHOUT, 3, 0, 0.5)
    keep(tmp_path, FIRST, 3, 0, 0.4)
    keep(tmp_path, WITHOUT, 50, 0, 0.15)
    mean, spread, seeds = lrn_gain("1 view", "clean", "20", tmp_path)
    assert (mean, seeds) == (pytest.approx(2.5), 2) and spread == pytest.approx(0.5**0.5)
    assert lrn_gain("10 views", "clean", 20, tmp_path)[0] == pytest.approx(2.5)
    assert lrn_gain("1 view", "clean", 3, tmp_path)[::2] == (pytest.approx(10), 1)
    assert lrn_gain("1 view", "clean", 50, tmp_path)[2] == 0
    clean = lrn_gains(tmp_path).query("pair == 'clean' and views == '9 shifts'").set_index("epochs")
    assert clean["points"].to_dict() == pytest.approx({3: 10, 20: 2.5}) and clean["seeds"].to_dict() == {3: 1, 20: 2}
    assert lrn_error(WITHOUT, "1 view", "20", tmp_path)[::2] == (pytest.approx(22), 3)
    assert lrn_error(WITHOUT, "1 view", 50, tmp_path)[::2] == (pytest.approx(15), 1)
    assert lrn_error(FIRST, "10 views", 20, tmp_path)[::2] == (pytest.approx(16), 2)


@pytest.mark.parametrize("changes", [{"precision": "fp32"}, {"compiled": True}])
def test_two_nets_that_differ_in_more_than_the_normalisation_are_no_pair(tmp_path, changes):
    keep(tmp_path, WITHOUT, 20, 0, 0.20)
    keep(tmp_path, FIRST, 20, 0, 0.17, **changes)
    [(name, value)] = changes.items()
    said = f"{FIRST}-20epochs-seed0 and .* differ in more than the net and seed: {name} = {value!r} there, and .* in"
    for ask in (lambda: lrn_gains(tmp_path), lambda: lrn_error(FIRST, "1 view", 20, tmp_path)):
        with pytest.raises(ValueError, match=said):
            ask()
    shutil.rmtree(tmp_path / f"lrn-{WITHOUT}-20epochs-seed0")
    keep(tmp_path, WITHOUT, 3, 0, 0.20)  # on another schedule they needn't be alike
    assert lrn_gain("1 view", "clean", 20, tmp_path)[2] == 0 and len(lrn_table(tmp_path)) == 2


def test_the_table_has_a_row_for_each_record_and_says_where_pictures_are_lossy(tmp_path):
    keep(tmp_path, FIRST, 20, 1, 0.18)
    keep(tmp_path, FIRST, 20, 0, 0.19)
    table = lrn_table(tmp_path)
    assert list(table["seed"]) == [0, 1] and set(table["pictures"]) == {"cifar10, a lossy copy"}
    assert set(table["precision"]) == {"bf16"}
    assert table.loc[0, ["epochs", *VIEWS]].tolist() == pytest.approx([20, 0.19, 0.18, 0.17])


def test_curves_have_a_row_for_each_epoch_of_each_record(tmp_path):
    keep(tmp_path, WITHOUT, 2, 1, 0.5, fit=(0.6, 0.4))
    keep(tmp_path, FIRST, 1, 0, 0.45)
    curves = lrn_curves(tmp_path)
    assert list(curves.columns) == ["net", "epochs", "seed", "epoch", "train", "test"]
    assert sorted(curves.itertuples(index=False, name=None)) == [
        (FIRST, 1, 0, 1, 1.0, 0.45),
        (WITHOUT, 2, 1, 1, 0.6, 0.5),
        (WITHOUT, 2, 1, 2, 0.4, 0.5),
    ]
    assert list(lrn_curves(tmp_path / "nowhere").columns) == list(curves.columns)


def test_the_figure_by_epoch_compares_nets_of_one_seed_only(tmp_path):
    keep(tmp_path, WITHOUT, 2, 0, 0.5, fit=(0.6, 0.4))
    keep(tmp_path, FIRST, 2, 0, 0.45, fit=(0.5, 0.41))
    keep(tmp_path, WITHOUT, 2, 1, 0.5, fit=(0.6, 0.4))
    keep(tmp_path, FIRST, 2, 1, 0.47, fit=(0.54, 0.42))
    keep(tmp_path, WITHOUT, 2, 2, 0.9, fit=(0.9, 0.9))  # has no partner
    figure = gains_by_epoch(lrn_curves(tmp_path), {"alone": LRN_PAIRS["clean"], "published": LRN_PAIRS["clean"]})
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["training crops"].get_xydata(), [[1, 8], [2, -1.5]])
    np.testing.assert_allclose(lines["test images"].get_ydata(), [4, 4])
    bands = [band.get_paths()[0].get_extents().intervaly for band in figure.axes[0].collections]
    np.testing.assert_allclose(bands, [[3, 5], [-2, 10]])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["alone", "published"]


def test_the_committed_records_fit():
    table = lrn_table()
    assert set(table["net"]) <= set(LRN_NETS)
    assert table[list(VIEWS)].stack().between(0, 0.9).all()
