"""The runs behind §4.1: what they keep, and what the ledger and notebook 05 read from them."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from alexnet_lib.evaluation import mean_of_views, predict, top_k_error
from alexnet_lib.experiments import ablations
from alexnet_lib.files import read_json, write_json
from alexnet_lib.runs.settings import resolve
from alexnet_lib.runs.stored import digests_of
from alexnet_lib.study.probes import random_store
from alexnet_lib.training import build_net
from tests.small_runs import NAME, prepare_place, settings


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two seeds of the three runs, with the folder that keeps them."""
    folder = tmp_path_factory.mktemp("augmentation")
    with pytest.MonkeyPatch.context() as patch:
        prepare_place(folder, patch)
        ablations.run_all("augmentation", settings(epochs=1), seeds=(0, 1), folder=folder / "kept")
        yield folder / "kept"


def test_every_run_is_kept_with_its_table(kept, monkeypatch):
    variants = {"baseline": "all", "crops-only": "crops", "no-augmentation": "none"}
    assert {path.name for path in kept.iterdir()} == {ablations.name_of(v, NAME, s) for v in variants for s in (0, 1)}
    for variant, augmentation in variants.items():
        for record in ablations.kept_runs(NAME, variant, kept).values():
            assert record.config["augmentation"] == augmentation
            assert len(pd.read_csv(record.folder / ablations.AVERAGED)) == 3
    monkeypatch.setattr(ablations, "run_variant", lambda *_: pytest.fail("trained again"))
    ablations.run_all("augmentation", settings(epochs=1), seeds=(0, 1), folder=kept)


def test_a_baseline_that_another_question_has_kept_gets_the_tables_that_it_lacks(kept, tmp_path, monkeypatch):
    name = ablations.name_of("baseline", NAME, 0)
    shutil.copytree(kept / name, tmp_path / name)
    for table in (ablations.AVERAGED, ablations.TINTED):
        (tmp_path / name / table).unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / name).iterdir()}
    monkeypatch.setattr(ablations, "keep", lambda *_: pytest.fail("kept again"))
    ablations.run_all("augmentation", settings(epochs=1), (0,), ("baseline",), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for table in (ablations.AVERAGED, ablations.TINTED):
        assert (tmp_path / name / table).read_bytes() == (kept / name / table).read_bytes()


@pytest.mark.parametrize("here", ["no finished run", "another one"])
def test_a_kept_baseline_whose_weights_are_not_here_is_not_trained_anew_and_overwritten(
    kept, tmp_path, monkeypatch, here
):
    name = ablations.name_of("baseline", NAME, 0)
    place = shutil.copytree(kept / name, tmp_path / name)
    (place / ablations.AVERAGED).unlink()
    if here == "no finished run":  # as where another machine has trained it
        monkeypatch.setenv("ALEXNET_RUNS", str(tmp_path / "runs"))
    else:
        (place / "history.csv").write_text((place / "history.csv").read_text().replace("0.", "0.0", 1))
        summary = read_json(place / "summary.json")
        summary["digests"] = digests_of(place, read_json(place / "config.json"), summary)
        write_json(place / "summary.json", summary)
    before = {path: path.read_bytes() for path in place.iterdir()}
    monkeypatch.setattr(ablations, "run_variant", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=f"is kept without averaged.csv.*holds {here}.*move .*{name} away first"):
        ablations.run_all("augmentation", settings(epochs=1), (0,), ("crops-only", "baseline"), tmp_path)
    assert {path: path.read_bytes() for path in place.iterdir()} == before


@pytest.mark.parametrize(("more", "name"), [([], ""), (["--epochs", "45"], ""), (["--epochs", "90"], "-90epochs")])
def test_runs_of_other_lengths_are_kept_beside_the_long_ones(kept, monkeypatch, more, name):
    folders = []
    monkeypatch.setattr(ablations.common, "report_kept", lambda *_: None)
    monkeypatch.setattr(ablations, "run_all", lambda *given: folders.append(given[-1]))
    ablations.main(["augmentation", "--long", *more])
    assert folders == [ablations.LONG.parent / f"augmentation-long{name}"]


def test_errors_by_view_are_those_of_the_summary(kept):
    table = (
        ablations.averaged_errors(NAME, folder=kept).query("average == 'probabilities'").set_index(["seed", "views"])
    )
    for seed, record in ablations.kept_runs(NAME, "baseline", kept).items():
        for views, name in ((1, "1 view"), (10, "10 views")):
            expected = record.summary["metrics"]["val"][name]
            for k in ("top1", "top5"):
                assert table.loc[(seed, views), k] == pytest.approx(100 * expected[k], abs=1e-3)


def test_errors_by_light_begin_with_those_of_the_summary(kept):
    for variant in ("baseline", "no-augmentation"):
        table = ablations.tinted_errors(NAME, variant, kept)
        assert list(table.index) == [*ablations.LIGHTS, *(f"noise {std}" for std in ablations.NOISES)]
        for seed, record in ablations.kept_runs(NAME, variant, kept).items():
            error = record.summary["metrics"]["val"]["1 view"]["top1"]
            assert table.loc["as it is", seed] == pytest.approx(100 * error, abs=1e-3)
        assert table.nunique(axis=1).gt(0).all() and table.to_numpy().std() > 0


def test_differences_over_the_seeds(kept):
    table = ablations.results(NAME, ("crops-only", "no-augmentation"), kept)["gap"]
    by_hand = [table["no-augmentation", seed] - table["crops-only", seed] for seed in (0, 1)]
    found = ablations.spread_of(ablations.gains(NAME, "no-augmentation", "crops-only", kept)["gap"])
    assert found == pytest.approx((np.mean(by_hand), np.std(by_hand, ddof=1), 2))
    errors = [r.summary["metrics"]["val"] for r in ablations.kept_runs(NAME, "baseline", kept).values()]
    gains = [100 * (e["1 view"]["top1"] - e["10 views"]["top1"]) for e in errors]
    assert ablations.ten_views_gain(NAME, "top1", kept)[0] == pytest.approx(np.mean(gains), abs=1e-3)


def test_the_mean_of_logits_is_the_geometric_mean_of_probabilities():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 10, 4)) * 3)
    probabilities = logits.softmax(2)
    np.testing.assert_allclose(mean_of_views(logits), probabilities.mean(1))
    geometric = probabilities.log().mean(1).exp()
    np.testing.assert_allclose(mean_of_views(logits, "logits"), geometric / geometric.sum(1, keepdim=True))
    with pytest.raises(ValueError, match="average = 'logit'; accepted are probabilities, logits"):
        mean_of_views(logits, "logit")


def test_one_view_has_one_average_and_others_are_refused(place):
    store = random_store(6, 73, classes=3)
    run = resolve(settings(), store)
    net, mean = build_net(run, 3), torch.zeros(3, 64, 64)
    one, other = (predict(net, store.images, mean, average=a) for a in ("probabilities", "logits"))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert top_k_error(one, store.labels) == top_k_error(other, store.labels)
    with pytest.raises(ValueError, match="average = 'votes'; accepted are probabilities, logits"):
        predict(net, store.images, mean, average="votes")


def test_variants_of_this_question_are_settings_of_a_run():
    for variant in ablations.QUESTIONS["augmentation"]:
        assert dataclasses.replace(settings(), **ablations.VARIANTS[variant].changes)
