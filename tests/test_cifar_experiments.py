"""§3.3's claim on CIFAR-10: what was kept becomes a table and a gain, for any set of records."""

import dataclasses
import math

import numpy as np
import pytest

from alexnet_lib.cifar_experiments import LRN_NETS, lrn_error, lrn_gain, lrn_gains, lrn_pair, lrn_table
from alexnet_lib.records import write_json, write_table
from alexnet_lib.response_figures import errors_by_net, gains_by_schedule
from alexnet_lib.settings import LrnSettings, check

WITHOUT, FIRST, FINAL = LRN_NETS
VIEWS = ("1 view", "9 shifts", "10 views")


def keep(folder, net, epochs, seed, error):
    """A record as `lrn` keeps it, with this error for one view and a point less for each other way to look."""
    place = folder / f"lrn-{net}-{epochs}epochs-seed{seed}"
    place.mkdir(parents=True)
    errors = {views: {"top1": error - 0.01 * i} for i, views in enumerate(VIEWS)}
    about = {"epochs": epochs, "seed": seed, "parameters": 1, "lossy_pictures": True}
    write_json(place / "summary.json", about | {"metrics": {"val": errors}})
    write_json(place / "config.json", {"net": net, "dataset": "cifar10", "precision": "bf16"})
    for name in ("history.csv", "timing.csv"):
        write_table(place / name, [{"epoch": 1}])


def test_no_record_gives_an_empty_table_and_no_gain(tmp_path):
    assert len(lrn_table(tmp_path)) == len(lrn_table(tmp_path / "nowhere")) == 0
    mean, spread, seeds = lrn_gain(folder=tmp_path)
    assert math.isnan(mean) and math.isnan(spread) and seeds == len(lrn_gains(tmp_path)) == 0
    assert lrn_error(WITHOUT, folder=tmp_path)[2] == 0


@pytest.mark.parametrize("asked", [("2 views", "clean"), ("1 view", "dirty")])
def test_a_gain_that_nobody_measures_is_an_error(asked):
    with pytest.raises(ValueError, match="accepted are 1 view, 9 shifts, 10 views of clean, published"):
        lrn_gain(*asked)


def test_one_seed_has_a_gain_and_no_spread(tmp_path):
    keep(tmp_path, WITHOUT, 20, 0, 0.20)
    assert lrn_gain(folder=tmp_path)[2] == 0  # the other net is missing
    keep(tmp_path, FIRST, 20, 0, 0.17)
    mean, spread, seeds = lrn_gain(folder=tmp_path)
    assert mean == pytest.approx(3) and math.isnan(spread) and seeds == 1
    assert lrn_gain(pair="published", folder=tmp_path)[2] == 0


def test_gains_are_paired_by_seed_and_of_the_schedule_with_most_seeds(tmp_path):
    for seed, error in enumerate((0.20, 0.21, 0.25)):
        keep(tmp_path, WITHOUT, 20, seed, error)
    for seed, error in enumerate((0.18, 0.18)):
        keep(tmp_path, FIRST, 20, seed, error)
    keep(tmp_path, WITHOUT, 3, 0, 0.5)
    keep(tmp_path, FIRST, 3, 0, 0.4)
    keep(tmp_path, WITHOUT, 50, 0, 0.15)
    mean, spread, seeds = lrn_gain(folder=tmp_path)
    assert (mean, seeds) == (pytest.approx(2.5), 2) and spread == pytest.approx(0.5**0.5)
    assert lrn_gain("10 views", folder=tmp_path)[0] == pytest.approx(2.5)
    clean = lrn_gains(tmp_path).query("pair == 'clean' and views == '9 shifts'").set_index("epochs")
    assert clean["points"].to_dict() == pytest.approx({3: 10, 20: 2.5}) and clean["seeds"].to_dict() == {3: 1, 20: 2}
    keep(tmp_path, FIRST, 50, 0, 0.14)
    assert lrn_gain(folder=tmp_path)[2] == 2  # one pair of fifty epochs is less than two of twenty
    keep(tmp_path, WITHOUT, 50, 1, 0.15)
    keep(tmp_path, FIRST, 50, 1, 0.14)
    assert lrn_gain(folder=tmp_path)[::2] == (pytest.approx(1), 2)
    assert lrn_error(WITHOUT, folder=tmp_path)[::2] == (pytest.approx(15), 2)
    assert lrn_error(FIRST, "10 views", folder=tmp_path)[::2] == (pytest.approx(12), 2)


def test_the_table_has_a_row_for_each_record_and_says_where_pictures_are_lossy(tmp_path):
    keep(tmp_path, FIRST, 20, 1, 0.18)
    keep(tmp_path, FIRST, 20, 0, 0.19)
    table = lrn_table(tmp_path)
    assert list(table["seed"]) == [0, 1] and set(table["pictures"]) == {"cifar10, a lossy copy"}
    assert set(table["precision"]) == {"bf16"}
    assert table.loc[0, ["epochs", *VIEWS]].tolist() == pytest.approx([20, 0.19, 0.18, 0.17])


def test_the_figure_joins_the_nets_of_a_seed_and_leaves_out_what_was_not_kept(tmp_path):
    for seed, net, error in ((0, WITHOUT, 0.2), (0, FIRST, 0.18), (1, FIRST, 0.17)):
        keep(tmp_path, net, 20, seed, error)
    figure = errors_by_net(lrn_table(tmp_path), {WITHOUT: "without", FIRST: "with"}, ("1 view", "10 views"))
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["seed 0"], [20, 18])
    np.testing.assert_allclose(lines["seed 1"], [math.nan, 17])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["1 view", "10 views"]


def test_the_figure_of_gains_has_a_mark_for_each_schedule_and_a_bar_where_there_are_seeds(tmp_path):
    for net, epochs, seed, error in ((WITHOUT, 20, 0, 0.2), (FIRST, 20, 0, 0.18), (WITHOUT, 20, 1, 0.2)):
        keep(tmp_path, net, epochs, seed, error)
    for net, epochs, seed, error in ((FIRST, 20, 1, 0.17), (WITHOUT, 100, 0, 0.15), (FIRST, 100, 0, 0.14)):
        keep(tmp_path, net, epochs, seed, error)
    titles = {"clean": "alone", "published": "published"}
    figure = gains_by_schedule(lrn_gains(tmp_path), titles, ("1 view", "10 views"), (520, 2.0))
    clean, published = ({c.get_label(): c.lines for c in axes.containers} for axes in figure.axes)
    line, _, (bars,) = clean["1 view"]
    np.testing.assert_allclose(line.get_xydata(), [[20, 2.5], [100, 1]])
    np.testing.assert_allclose([np.ptp(bar[:, 1]) for bar in bars.get_segments()], [2 * 0.5**0.5, 0], atol=1e-9)
    assert not len(published["10 views"][0].get_xdata())
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["20", "100", "520"]


def test_the_committed_records_fit():
    table = lrn_table()
    assert set(table["net"]) <= set(LRN_NETS)
    assert table[list(VIEWS)].stack().between(0, 0.9).all()


def test_the_notebooks_two_nets_differ_in_the_normalisation_only():
    asked = lrn_pair(check(LrnSettings, {"dataset": "embedded32", "epochs": 3, "seed": 7}))
    assert dataclasses.replace(asked["without"], net=FIRST) == asked["with"]
    assert (asked["with"].stages, asked["with"].seed, asked["with"].image_size) == (((3, 1.0),), 7, 16)
    large = lrn_pair(LrnSettings(dataset="cifar10"))["without"]
    assert (large.stages, large.image_size, large.batch_size) == (((20, 1.0),), 24, 128)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "embedded"}, "dataset = 'embedded'; accepted is 'auto', or 'embedded32' or 'cifar10'"),
        ({"image_size": 40}, "image_size = 40; accepted is 'auto', or less than or equal to 32"),
        ({"epohcs": 3}, "unknown parameter 'epohcs'; accepted are dataset, image_size, epochs"),
    ],
)
def test_the_notebooks_parameters_are_checked(values, message):
    with pytest.raises(ValueError) as error:
        check(LrnSettings, values)
    assert message in str(error.value)
