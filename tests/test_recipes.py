"""§5, what was done in 2012 and the paper leaves out: recipe "code2012" at full length, compressed, and in a run."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from alexnet_lib import alexnet, load_dataset, recipe, training
from alexnet_lib.augmentation import centre_crops
from alexnet_lib.evaluation import mean_of
from alexnet_lib.learning import group_factor, initial_bias, initial_std, parameter_groups, patience_for, rate_factor
from alexnet_lib.loader import make_batches
from alexnet_lib.runs.records import load_checkpoint
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import train
from tests.small_runs import NAME, settings

GROUPS = ("weights", "biases", "conv1 weights", "conv1 biases")
# epoch of 91: rates of weights, biases, and conv1's weights and biases (layer-params-145.cfg and its stages)
LOGGED = {
    0: (1e-2, 2e-2, 1e-2, 2e-2),
    24: (1e-2, 2e-2, 1e-2, 2e-2),
    25: (1e-3, 2e-3, 1e-3, 2e-3),
    51: (1e-4, 2e-3, 1e-4, 2e-3),
    66: (1e-4, 2e-3, 1e-4, 2e-3),
    67: (1e-4, 2e-3, 1e-5, 2e-3),
    71: (1e-4, 2e-3, 1e-5, 2e-3),
    72: (1e-4, 2e-3, 0, 0),
    79: (1e-5, 2e-3, 0, 0),
    90: (1e-5, 2e-3, 0, 0),
}


def rates_at(done):
    named = recipe("code2012")
    return [named.learning_rate * rate_factor(named, done) * group_factor(named, group, done) for group in GROUPS]


@pytest.mark.parametrize("epoch", LOGGED)
def test_rates_of_2012(epoch):
    assert recipe("code2012").epochs == 91
    assert rates_at(epoch / 91) == [pytest.approx(rate) for rate in LOGGED[epoch]]


def test_groups_of_2012():
    net = alexnet("code2012", 5, width=0.05, image_size=64, seed=0)
    groups = {group["name"]: group for group in parameter_groups(net, recipe("code2012"))}
    assert sorted(groups) == sorted(GROUPS)
    assert {name: len(group["params"]) for name, group in groups.items()} == dict(
        zip(GROUPS, (7, 7, 1, 1), strict=True)
    )
    assert {name: group["weight_decay"] for name, group in groups.items()} == dict(
        zip(GROUPS, (5e-4, 0, 5e-4, 0), strict=True)
    )
    assert groups["conv1 weights"]["params"][0] is net.conv1.weight


@pytest.mark.parametrize("name", ["paper", "small", "stepped"])
def test_the_others_treat_all_parameters_alike(name):
    net = alexnet("paper", 5, width=0.05, image_size=64, seed=0)
    (group,) = parameter_groups(net, recipe(name))
    assert len(group["params"]) == 16 and group["weight_decay"] == 5e-4
    assert {group_factor(recipe(name), group["name"], done) for done in np.linspace(0, 1, 50)} == {1.0}


def test_initial_weights_of_caffe():
    stds = [initial_std(name, 9216, "caffe") for name in ("conv1", "conv4", "fc6", "fc7", "fc8")]
    assert stds == [0.01, 0.01, 0.005, 0.005, 0.01]
    biases = [initial_bias(name, "caffe") for name in ("conv1", "conv2", "conv3", "conv5", "fc7", "fc8")]
    assert biases == [0, 0.1, 0, 0.1, 0.1, 0]


def test_patience_is_in_proportion_to_the_run():
    assert [patience_for(epochs) for epochs in (90, 180, 63, 45, 5)] == [5, 10, 4, 2, 2]


def test_a_net_of_2012_takes_the_recipe_of_2012(place):
    store = load_dataset(NAME)["train"]
    many = dataclasses.replace(store, labels=np.zeros(100_001, np.int64))
    auto = settings(net="code2012", epochs="auto", batch_size="auto")
    run = resolve(auto, many)
    assert (run.recipe, run.epochs, run.batch_size, run.initialisation) == ("code2012", 91, 128, "code2012")
    run = resolve(dataclasses.replace(auto, net="paper"), many)
    assert (run.recipe, run.epochs, run.initialisation) == ("paper", 90, "printed")
    assert resolve(auto, store).recipe == "small"


def test_what_is_trained_by_default_is_a_net_that_learns(place):
    """A narrow net with the printed weights passes nothing on: 90 epochs of Tiny ImageNet would end at a guess."""
    store = load_dataset(NAME)["train"]
    for images, recipe_, epochs in ((100_000, "small", 45), (100_001, "paper", 90)):
        run = resolve(settings(width="auto", epochs="auto"), dataclasses.replace(store, labels=np.zeros(images, int)))
        assert (run.width, run.recipe, run.epochs, run.initialisation) == (0.25, recipe_, epochs, "rescaled")
    for recipe_ in ("paper", "code2012"):
        assert resolve(settings(width="auto", recipe=recipe_), store).initialisation == "rescaled"
        assert resolve(settings(width=0.25, recipe=recipe_), store).initialisation != "rescaled"
    assert resolve(settings(width="auto", recipe="googlenet"), store).initialisation == "fan_in"  # of any width


# ------------------------------------------------------------------------------------------------- a compressed run


def settings_2012(**changes):
    """Ninety-one epochs in nine: drops in epochs 3, 6 and 8, counted from 1; conv1 slower in 7, frozen in 8."""
    few = {"net": "code2012", "recipe": "code2012", "initialisation": "fan_in", "epochs": 9, "learning_rate": 0.001}
    return settings(**few | changes)


def states_of(record_folder, seen):
    """A callback that keeps the weights after each epoch, and the rates of its last step."""

    def keep(history):
        state = load_checkpoint(record_folder)
        rates = [group["lr"] for group in json.loads(state["progress"])["rates"]]
        seen.append((state["net"], rates))

    return keep


def test_a_compressed_run_freezes_its_first_layer_and_keeps_its_rates(place):
    run, seen = resolve(settings_2012(), load_dataset(NAME)["train"]), []
    record = train(run, on_epoch=states_of(run.folder, seen))
    weights, rates = zip(*seen, strict=True)
    frozen = [torch.equal(weights[i]["conv1.weight"], weights[i - 1]["conv1.weight"]) for i in range(1, 9)]
    assert frozen == [False] * 7 + [True]
    assert torch.equal(weights[8]["conv1.bias"], weights[7]["conv1.bias"])
    assert not torch.equal(weights[8]["conv2.weight"], weights[7]["conv2.weight"])
    net = alexnet("code2012", 3, width=0.05, image_size=64)
    names = [group["name"] for group in parameter_groups(net, recipe("code2012"))]
    stopped = {name for name, rate in zip(names, rates[8], strict=True) if rate == 0}
    assert stopped == {"conv1 weights", "conv1 biases"}
    assert record.history.query("split == 'train'")["learning_rate"].tolist() == pytest.approx(
        [1e-3] * 2 + [1e-4] * 3 + [1e-5] * 3 + [1e-6]
    )
    val = record.summary["metrics"]["val"]
    assert set(val) == {"1 view", "10 views"}


def test_test_pictures_are_evaluated_where_there_are_any(place, monkeypatch):
    stores = load_dataset(NAME)
    monkeypatch.setattr(training, "load_dataset", lambda _: stores | {"test": stores["val"]})
    metrics = train(settings(epochs=1)).summary["metrics"]
    assert metrics["test"] == metrics["val"] and set(metrics["test"]) == {"1 view", "10 views"}


class Interrupted(Exception):
    """Stands for a crash."""


@pytest.mark.parametrize("after", [3, 7])
def test_an_interrupted_run_of_2012_goes_on_with_the_same_bits(place, monkeypatch, after):
    def interrupt(history):
        if history["epoch"].max() == after:
            raise Interrupted

    monkeypatch.setenv("ALEXNET_RUNS", str(place / "whole"))
    whole = train(settings_2012()).folder
    monkeypatch.setenv("ALEXNET_RUNS", str(place / "broken"))
    with pytest.raises(Interrupted):
        train(settings_2012(), on_epoch=interrupt)
    broken = train(settings_2012()).folder
    for name in ("history.csv", "checkpoint.pt"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


# --------------------------------------------------------------------------------------------------------- the batches


def inputs_of(store, epoch, **changes):
    run = resolve(settings_2012(**changes), store)
    return torch.cat([x for x, _ in make_batches(run, store, mean_of(store, 64), epoch)]).permute(0, 2, 3, 1).numpy()


def test_colour_noise_is_switched_off_before_the_end(place):
    store = load_dataset(NAME)["train"]
    for epoch, off in ((6, False), (7, True)):
        assert np.array_equal(inputs_of(store, epoch), inputs_of(store, epoch, augmentation="crops")) == off


def test_thirty_two_images_in_a_row_share_a_crop(place):
    store = load_dataset(NAME)["train"]
    height, width = np.mgrid[:73, :73]
    store.images[:] = np.stack([height, width, height * 0], axis=-1)  # each pixel says where it is
    places = inputs_of(store, 0, augmentation="crops")
    places = np.rint(places + centre_crops(store.mean[None], 64))
    first = [tuple(image[0, ::63].ravel()) for image in places]
    assert len(set(first[:32])) == 1 == len(set(first[32:])) and first[0] != first[32]


def test_an_average_of_weights_goes_without_batch_normalisation(place):
    """Its statistics would be those of other weights; torch.optim.swa_utils.update_bn makes them anew."""
    asked = settings(net="googlenet", recipe="googlenet", normalization="batch")
    with pytest.raises(
        ValueError, match="recipe = 'googlenet' tests averaged weights, .* accepted with it are paper, "
    ):
        resolve(asked, load_dataset(asked.dataset)["train"])
