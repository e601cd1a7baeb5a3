"""§3.3, looking at the normalisation: units, the bump, who inhibits whom, the border between columns, the logs."""

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from alexnet_lib import LocalResponseNorm, normalization
from alexnet_lib.figures import responses as figures
from alexnet_lib.normalization import K_OF_CONVENTION
from alexnet_lib.paths import NOTEBOOKS
from alexnet_lib.study.log2012 import logged_gain
from alexnet_lib.study.responses import (
    after_relu,
    bump_peak,
    competition,
    conventions,
    cut_maps,
    cut_windows,
    doubled,
    first_layer,
    gaussian_gain,
    kept,
    logged_table,
    lone_response,
    most_inhibited,
    relative_change,
    square_weight,
    torch_arguments,
)


def normal(*shape, deviation=60.0, seed=0):
    return torch.from_numpy(deviation * np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("convention", K_OF_CONVENTION)
@pytest.mark.parametrize("n", [1, 4, 5, 8])
def test_torch_computes_every_convention_with_these_arguments(convention, n):
    x = normal(2, 12, 3)
    theirs = torch.nn.LocalResponseNorm(**torch_arguments(convention, n, 0.002), beta=0.75)(x)
    torch.testing.assert_close(LocalResponseNorm(convention, n=n, alpha=0.002)(x), theirs, rtol=1e-12, atol=1e-12)


def test_the_table_of_conventions():
    table = conventions().set_index("convention")
    assert list(table["α in the formula"]) == ["0.0001", "2e-05", "2e-05", "2e-05"]
    assert list(table["alpha in a file"]) == ["0.0005", "0.0001", "0.0001", "0.0001"]
    assert list(table["k"]) == ["2", "2", "1", "1"]
    assert list(table["maps, n = 4"]) == ["5", "4", "not allowed", "4"]


@pytest.mark.parametrize("convention", K_OF_CONVENTION)
def test_a_lone_response_is_that_of_the_operator(convention):
    x = torch.zeros(1, 9, dtype=torch.float64)
    x[0, 4], x[0, 5] = 210.0, 70.0
    response = LocalResponseNorm(convention)(x)[0, 4].item()
    assert lone_response(210.0, convention, neighbours=70.0**2) == pytest.approx(response, rel=1e-12)


@given(k=st.floats(0.5, 4), weight=st.floats(1e-6, 1e-2))
def test_the_bump_is_highest_at_its_peak(k, weight):
    a, height = bump_peak(k, weight)
    assert height == pytest.approx(a * (k + weight * a * a) ** -0.75)
    for factor in (0.99, 1.01):
        assert factor * a * (k + weight * (factor * a) ** 2) ** -0.75 < height


def test_the_formula_as_printed_peaks_at_two_hundred():
    assert bump_peak(2.0, square_weight("paper"))[0] == pytest.approx(200)


def test_gains_of_normal_activations():
    """Computed independently when the facts about the program were collected."""
    gains = {name: round(gaussian_gain(LocalResponseNorm(name), 60.0), 2) for name in K_OF_CONVENTION}
    assert gains == {"paper": 0.42, "code2012": 0.54, "caffe": 0.84}
    assert round(gaussian_gain(LocalResponseNorm("code2012"), 60.0, before_relu=True), 2) == 0.52


def test_what_is_kept_is_the_response_over_that_in_silence():
    x, norm = normal(2, 7, 3, 4), LocalResponseNorm("caffe", alpha=0.001, k=3.0)
    torch.testing.assert_close(x * kept(x, norm) * 3.0**-0.75, norm(x), rtol=1e-12, atol=0)


def test_what_is_kept_and_who_is_a_rival_stay_in_a_column():
    x, norm = torch.full((1, 96, 1, 1), 100.0, dtype=torch.float64), LocalResponseNorm("code2012", columns=2)
    torch.testing.assert_close(x * kept(x, norm) * 2**-0.75, norm(x), rtol=1e-12, atol=0)
    assert kept(x, norm)[0, 47] > kept(x, norm)[0, 40]  # two of its four neighbours are on the other GPU
    x[0, 47] = 5000
    table = competition(x[0, :, 0, 0], norm)
    assert list(table["rival"][45:48]) == [47] * 3 and (table["rival"][48:] != 47).all()


def test_in_a_silent_window_nobody_is_a_rival():
    table = competition(torch.tensor([5.0, 0, 0, 0, 0, 0, 0, 0]), LocalResponseNorm("code2012"))
    assert table["rival"].tolist() == [0, 0, 0, 3, 4, 5, 6, 7] and table["share"].notna().sum() == 3


def test_a_loud_map_is_the_rival_of_its_neighbours():
    x = torch.ones(9)
    x[4] = 500.0
    table = competition(x, LocalResponseNorm("code2012"))
    assert list(table["rival"][2:7]) == [4] * 5 and table["rival"][0] != 4
    assert (table["share"][2:7] > 0.99).all() and (table["kept"][2:7] < 0.5).all()
    assert (table["kept"].drop(range(2, 7)) > 0.99).all()
    np.testing.assert_allclose(table["after"], table["before"] * table["kept"] * 2**-0.75, rtol=1e-6)


def test_the_most_inhibited_unit_speaks():
    x = torch.zeros(2, 6, 4, 4)
    x[1, 3, 2, 1], x[1, 4, 2, 1] = 300.0, 10.0
    x[0, 0, 0, 0] = 20.0
    picture, map_, row, column = most_inhibited(x, LocalResponseNorm("code2012"))
    assert (picture, row, column) == (1, 2, 1) and map_ in (3, 4)


def test_two_columns_cut_the_windows_of_four_maps_a_layer():
    assert cut_windows(96) == {46: [48], 47: [48, 49], 48: [46, 47], 49: [47]}
    assert cut_maps() == 8
    assert cut_windows(96, columns=1) == {}
    x = normal(1, 96)
    whole, divided = (LocalResponseNorm("paper", columns=c)(x)[0] for c in (1, 2))
    assert (whole != divided).nonzero().flatten().tolist() == [46, 47, 48, 49]


def test_the_first_layer_with_and_without_its_normalisation():
    from alexnet_lib.cifar_nets import cifar_net

    net, x = cifar_net("conv-local-11pct-first", initialisation="fan_in"), normal(2, 3, 12, 12).float()
    maps = first_layer(net, x, normalised=False)
    torch.testing.assert_close(maps, torch.relu(net.conv1(x)))
    torch.testing.assert_close(first_layer(net, x), net.lrn1(maps))
    assert not maps.requires_grad
    assert relative_change(maps, 1.5 * maps) == pytest.approx(0.5)
    edge = torch.zeros_like(maps)
    edge[..., 0] = 1.0
    assert relative_change(maps, maps + edge) == 0


def test_the_logs_give_the_printed_gains_when_rounded():
    assert tuple(round(gain, 1) for gain in logged_gain("148", "145")) == (1.4, 1.2)
    assert list(logged_table()["run"])[:3] == ["145", "145, longer", "148"]


def test_where_the_program_and_the_text_differ():
    assert (after_relu("paper"), after_relu("code2012")) == (2, 1)
    assert square_weight("code2012") == pytest.approx(1e-4 / 5)


def test_doubled_activations_give_less_than_doubled_responses():
    assert 1 < doubled(200) < doubled(60) < doubled(1) == pytest.approx(2, abs=0.01)


CELLS = {cell.id: cell.source for cell in nbformat.read(NOTEBOOKS / "03_lrn.ipynb", 4).cells}
WRITTEN = (
    "mine",
    "mean",
    "rmsnorm",
)  # cells of notebook 03 that hold the reader's lines against the library's and torch's


def run_the_reader_s_cells(mistake=("", "")):
    names = {"np": np, "torch": torch, "F": F, "LocalResponseNorm": LocalResponseNorm}
    for cell in WRITTEN:
        exec(CELLS[cell].replace(*mistake, 1) if all(mistake) else CELLS[cell], names)
    halves = [line for line in CELLS["columns-figure"].splitlines() if "halves" in line]
    exec("\n".join(halves), names)


def test_the_reader_s_normalisation_is_the_library_s():
    run_the_reader_s_cells()


@pytest.mark.parametrize(
    "mistake", [("energy) **", "energy / n) **"), ("in range(n", "in range(1, n"), ("a**2", "a"), ("k=2", "k=1")]
)
def test_notebook_03_notices_a_mistake_in_the_reader_s_lines(mistake):
    with pytest.raises(AssertionError):
        run_the_reader_s_cells(mistake)


@pytest.mark.parametrize("broken", ["k", "scale", "beta", "window", "mean", "columns"])
def test_notebook_03_notices_when_the_library_s_normalisation_is_broken(monkeypatch, broken):
    right = normalization._across_maps

    def wrong(x, convention, n, columns, k, alpha, beta, compiled):
        changes = {
            "k": {"k": k / 2},
            "scale": {"alpha": 1.1 * alpha},
            "beta": {"beta": 0.5},
            "window": {"n": n - 2},
            "mean": {"convention": "paper"},
            "columns": {"columns": 1},
        }
        asked = dict(convention=convention, n=n, columns=columns, k=k, alpha=alpha, beta=beta) | changes[broken]
        return right(x, **asked, compiled=compiled)

    monkeypatch.setattr(normalization, "_across_maps", wrong)
    with pytest.raises(AssertionError):
        run_the_reader_s_cells()


def test_a_silent_channel_keeps_nothing_in_the_figure_and_its_bar_is_missing():
    x = torch.zeros(9)
    x[3], x[4], x[6] = 40.0, 500.0, 20.0
    table = competition(x, LocalResponseNorm("code2012"))
    picture = np.zeros((8, 8, 3), np.uint8)
    figure = figures.competition(picture, (4, 4), 5, np.ones((8, 8)), table, 3)
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in figure.axes[3].patches}
    assert bars == pytest.approx(dict(100 * table["kept"][[3, 4, 6]]))


def test_what_it_was_worth_is_drawn_with_its_interval_and_the_paper_s_value():
    saved, intervals = {"ours": [0.5, 1.5], "one pair": [1.37]}, {"ours": (-5.4, 7.4), "one pair": (np.nan, np.nan)}
    (place,) = figures.worth(saved, intervals, {"one pair": 1.4}).axes
    drawn = {(line.get_label(), line.get_ydata()[0]): list(line.get_xdata()) for line in place.lines}
    assert drawn["mean, or a single pair", 0] == [1.0] and drawn["95 % interval", 0] == [-5.4, 7.4]
    assert drawn["the paper", 1] == [1.4] and ("the paper", 0) not in drawn
    assert [label.get_text() for label in place.get_yticklabels()] == ["ours (n = 2)", "one pair (n = 1)"]
