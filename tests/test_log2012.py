"""§6: the tables against the logs, averages of nets, weights fitted as in 2012, the reader's own runs."""

import dataclasses
import shutil

import numpy as np
import pytest
from small_runs import NAME, prepare_place, settings

from alexnet_lib.dataset import load_dataset
from alexnet_lib.evaluation import evaluate, mean_of, predict, top_k_error
from alexnet_lib.runs.cifar_settings import CifarSettings
from alexnet_lib.study import log2012 as results
from alexnet_lib.training import load_net, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of seconds."""
    with pytest.MonkeyPatch.context() as patch:
        prepare_place(tmp_path_factory.mktemp("results"), patch)
        yield train(settings(epochs=1))


def noisy_nets(labels, strengths):
    """Probabilities of nets that know the labels more or less well, and err independently."""
    return [results.equal_nets(labels, 1, s, seed=i)[0] for i, s in enumerate(strengths)]


LABELS = np.random.default_rng(1).integers(0, 10, 1000)


def test_tables_show_the_log_beside_each_number():
    one, two = results.table_1(), results.table_2()
    assert one.query("model == 'CNN'")["log of 2012 (%)"].item() == "37.47 / 17.00"
    assert two.query("model == '1 CNN*'")["file"].item() == "layer-params-146-2012-2011.cfg"
    assert two.query("model == '5 CNNs'")["log of 2012 (%)"].item() == ""
    assert results.log_error() <= 0.05


def test_differences_of_logs_round_to_what_is_printed():
    printed = {("148", "145"): (1.4, 1.2), ("147", "145"): (0.4, 0.3)}
    for pair, gains in printed.items():
        assert np.round(results.logged_gain(*pair), 1).tolist() == list(gains)
    assert np.round(results.logged_gain("145-half", "145-2010", "2010 test"), 1).tolist() == [1.7, 1.2]
    with pytest.raises(ValueError, match="no log of run 999"):
        results.logged("999")


def test_an_average_of_nets_that_err_independently_errs_less():
    nets = noisy_nets(LABELS, [1.5] * 5)
    single = np.mean([top_k_error(p, LABELS)[1] for p in nets])
    assert top_k_error(results.averaged(nets), LABELS)[1] < single - 0.1
    np.testing.assert_allclose(results.averaged(nets), np.mean(nets, axis=0))
    np.testing.assert_allclose(results.averaged(nets, [0, 0, 2, 0, 0]), nets[2])
    with pytest.raises(ValueError, match="sum to nothing"):
        results.averaged(nets, [0] * 5)


def test_fitted_weights_are_never_worse_where_they_were_fitted():
    nets = noisy_nets(LABELS, [2.0, 1.5, 0.2, 0.0])
    weights = results.fit_weights(nets, LABELS, k=1)
    equal = top_k_error(results.averaged(nets), LABELS)[1]
    assert top_k_error(results.averaged(nets, weights), LABELS)[1] <= equal
    assert weights[0] > weights[3] and ((weights >= 0) & (weights <= 1)).all()


def test_weights_fitted_on_chance_gain_on_chance_alone():
    few, many = results.fitted_on_chance([100, 1000], draws=4).to_dict("records")
    assert few["on the same images"] > many["on the same images"] > 0
    assert few["on 2000 others"] < few["on the same images"] / 2


def test_probabilities_of_a_run_give_its_errors(run):
    stores = load_dataset(run.config["dataset"])
    p = results.probabilities(run, views=1)
    expected = evaluate(load_net(run), stores["val"], mean_of(stores["train"], run.config["image_size"]))
    assert top_k_error(p, stores["val"].labels)[1] == pytest.approx(expected["top1"])
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="split = 'test'; embedded has train, val"):
        results.probabilities(run, "test")


def test_probabilities_are_of_pixels_divided_as_in_training(run):
    usual = {"net": "19pct", "stages": ((1, 1.0),), "image_size": 12, "batch_size": 16, "learning_rate": 0.001}
    divided = {"input_divisor": 64.0, "initialisation": "fan_in", "weight_decay": 0.0, "device": "cpu"}
    record = train(CifarSettings(dataset=NAME, **usual, **divided))
    labels = load_dataset(NAME)["val"].labels
    for views, said in ((1, "1 view"), (10, "10 views")):
        found = top_k_error(results.probabilities(record, views=views), labels)
        assert found[1] == pytest.approx(record.summary["metrics"]["val"][said]["top1"], abs=1e-6)
    stores = load_dataset(NAME)
    undivided = predict(load_net(record), stores["val"].images, mean_of(stores["train"], 12)).numpy()
    assert np.abs(results.probabilities(record, views=1) - undivided).max() > 0.01


def test_nets_that_answer_no_numbers_are_not_averaged():
    with pytest.raises(ValueError, match="NaN or infinities"):
        results.averaged([np.full((2, 3), 1 / 3), np.full((2, 3), np.nan)])


def test_a_run_is_not_scored_on_other_pictures_than_it_was_trained_on(run):
    other = dataclasses.replace(run, summary=run.summary | {"dataset": {"val": "others"}})
    with pytest.raises(ValueError, match="data of val = 'others' there"):
        results.probabilities(other)


def test_the_readers_own_runs_are_found(run):
    (row,) = results.reader_runs().to_dict("records")
    assert row["run"] == run.folder.name and row["epochs"] == 1
    val = run.summary["metrics"]["val"]["10 views"]
    assert row["10 views, top-1 / top-5 (%)"] == f"{100 * val['top1']:.1f} / {100 * val['top5']:.1f}"
    assert results.reader_runs("nothing").empty


def test_runs_of_cifar_nets_are_listed_too(run):
    whole = {"image_size": 73, "stages": ((1, 1.0),), "device": "cpu", "experiment": "train"}
    record = train(CifarSettings(dataset=NAME, **whole))
    rows = results.reader_runs().set_index("run")
    assert set(rows.index) == {run.folder.name, record.folder.name}
    row, val = rows.loc[record.folder.name], record.summary["metrics"]["val"]["1 view"]
    assert row["width"] == row["10 views, top-1 / top-5 (%)"] == "–" and row["net"] == "19pct"
    assert row["1 view, top-1 / top-5 (%)"] == f"{100 * val['top1']:.1f} / {100 * val['top5']:.1f}"
    shutil.rmtree(record.folder)


def test_the_command_averages_runs(run, capsys):
    results.main([str(run.folder), str(run.folder)])
    printed = capsys.readouterr().out
    assert ": 1 view, " in printed and "their average: 10 views" in printed
    with pytest.raises(SystemExit):
        results.main([str(run.folder / "nowhere")])
    assert "no finished run" in capsys.readouterr().err
