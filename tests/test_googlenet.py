"""The next paper's network: every published number, what stands where, and what it answers."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from alexnet_lib import googlenet
from alexnet_lib.columns import own_column
from alexnet_lib.distortions import many_views
from alexnet_lib.dropout import Dropout
from alexnet_lib.evaluation import evaluate, mean_of, predict
from alexnet_lib.figures import googlenet as figures
from alexnet_lib.inception import HEADS, INCEPTIONS, Branches, Inception, skeleton
from alexnet_lib.learning import learned_layers
from alexnet_lib.normalization import LocalResponseNorm
from alexnet_lib.runs.job import Job
from alexnet_lib.runs.launch import torchrun
from alexnet_lib.runs.settings import resolve
from alexnet_lib.study import googlenet as tables
from alexnet_lib.study.anatomy import trace
from alexnet_lib.study.googlenet import dissect, modules, parameters_of
from alexnet_lib.training import build_net, load_dataset, load_net, train
from tests.small_runs import settings

# output, parameters, multiply-adds in millions, counted by hand from Table 1 of the paper
MODULES = {
    "conv1": ("64 × 112 × 112", 9_472, 118.0),
    "conv2_reduce": ("64 × 56 × 56", 4_160, 12.8),
    "conv2": ("192 × 56 × 56", 110_784, 346.8),
    "inception3a": ("256 × 28 × 28", 163_696, 128.0),
    "inception3b": ("480 × 28 × 28", 388_736, 304.3),
    "inception4a": ("512 × 14 × 14", 376_176, 73.6),
    "auxiliary inception4a": ("1000", 3_188_840, 4.2),
    "inception4b": ("512 × 14 × 14", 449_160, 87.9),
    "inception4c": ("512 × 14 × 14", 510_104, 99.9),
    "inception4d": ("528 × 14 × 14", 605_376, 118.5),
    "auxiliary inception4d": ("1000", 3_190_888, 4.2),
    "inception4e": ("832 × 14 × 14", 868_352, 170.0),
    "inception5a": ("832 × 7 × 7", 1_043_456, 51.1),
    "inception5b": ("1024 × 7 × 7", 1_444_080, 70.7),
    "fc": ("1000", 1_025_000, 1.0),
}
SMALL = {"width": 0.1, "image_size": 64, "without": "pool3"}


@pytest.fixture(scope="module")
def net():
    return googlenet(7, seed=0, **SMALL)


def test_parameters_are_the_published_ones():
    assert parameters_of("main") == 6_998_552
    assert parameters_of("training") == 13_378_280


def test_every_module_has_its_published_shape_and_size():
    table = modules(skeleton())
    found = {
        name: (row["output"], row["parameters"], round(row["multiply_adds"] / 1e6, 1)) for name, row in table.iterrows()
    }
    assert found == MODULES
    assert table["parameters"].sum() == 13_378_280


def test_the_auxiliaries_see_four_by_four_units():
    layers = dissect(skeleton()).set_index(["module", "layer"])
    for head, maps in zip(HEADS, (512, 528), strict=True):
        assert layers.loc[(f"auxiliary {head}", "conv"), "input"] == (maps, 4, 4)
        assert layers.loc[(f"auxiliary {head}", "hidden"), "input"] == (4 * 4 * 128,)


def test_twenty_two_layers_on_the_longest_path():
    table = dissect(skeleton(aux=False))
    assert len(table) == 58
    assert tables.depth(skeleton()) == 22


@pytest.mark.parametrize("without", [None, "pool1", "pool2", "pool3", "pool4"])
def test_shapes_from_the_sizes_are_those_of_a_forward_pass(without):
    net = googlenet(5, False, seed=0, width=0.05, image_size=64, without=without).eval()
    outputs, table = trace(net, torch.zeros(1, 3, 64, 64)), modules(net, 64)
    for name, shape in table["output"].items():
        assert " × ".join(map(str, outputs[name].shape[1:])) == shape


def test_training_gives_three_answers_and_inference_one(net):
    x = torch.zeros(2, 3, 64, 64)
    with torch.no_grad():
        answers = net.train()(x)
        alone = net.eval()(x)
    assert [answer.shape for answer in answers] == 3 * [(2, 7)] and alone.shape == (2, 7)
    assert googlenet(7, False, seed=0, **SMALL).train()(x).shape == (2, 7)


def test_pictures_of_another_size_are_refused(net):
    with pytest.raises(AssertionError, match="maps that reach the last pool have another side"):
        net.eval()(torch.zeros(1, 3, 128, 128))


def test_auxiliaries_reach_the_layers_below_them_only(net):
    net.train()(torch.rand(2, 3, 64, 64))[2].sum().backward()
    touched = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    net.zero_grad(set_to_none=True)
    assert any(name.startswith("conv1") for name in touched) and any("inception4d" in name for name in touched)
    assert not any(name.startswith(("inception4e", "inception5a", "fc", "heads.inception4a")) for name in touched)


def test_a_module_is_its_branches_side_by_side():
    torch.manual_seed(0)
    module = Inception(6, Branches(2, 4, 6, 2, 4, 2)).double()
    x = torch.rand(1, 6, 5, 5, dtype=torch.float64)
    out = module(x)
    assert out.shape == (1, 14, 5, 5) and module.maps == 14
    by_hand = torch.nn.functional.max_pool2d(x, 3, 1, 1)
    by_hand = torch.nn.functional.conv2d(by_hand, module.pool[1].weight, module.pool[1].bias).relu()
    torch.testing.assert_close(out[:, 12:], by_hand)
    middle = torch.zeros_like(x)
    middle[..., 2, 2] = 1
    changed = (module.five(x + middle) - module.five(x)).abs().sum((0, 1)) > 0
    assert changed.all(), "a window of 5 reaches every unit of a 5 × 5 map from its middle"


def test_what_it_has_and_what_it_has_not():
    net = skeleton()
    kinds = [type(layer).__name__ for layer in net.modules()]
    assert not any("BatchNorm" in kind for kind in kinds) and kinds.count("Inception") == 9
    norms = [layer for layer in net.modules() if isinstance(layer, LocalResponseNorm)]
    assert [(norm.n, norm.k, norm.alpha, norm.beta) for norm in norms] == 2 * [(5, 1.0, 1e-4, 0.75)]
    assert net.layers[2:4] == ["pool1", "norm1"] and net.layers[7:10] == ["relu2", "norm2", "pool2"]
    drops = {name: layer.p for name, layer in net.named_modules() if isinstance(layer, Dropout)}
    assert drops == {"drop5": 0.4, "heads.inception4a.drop": 0.7, "heads.inception4d.drop": 0.7}
    assert {net.get_submodule(name).five[2].kernel_size for name in INCEPTIONS} == {(5, 5)}


def test_torchvisions_differs_by_norms_biases_and_a_window():
    torchvision = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        for aux, expected in ((False, 6_624_904), (True, 13_004_888)):
            theirs = torchvision.GoogLeNet(aux_logits=aux, init_weights=False)
            assert sum(p.numel() for p in theirs.parameters()) == tables.torchvision_parameters(aux) == expected


def test_what_narrows_saves_most_of_the_weights():
    table = tables.reductions()
    assert table.loc["inception3a", ["5 × 5, naive", "5 × 5, narrowed"]].tolist() == [153_600, 15_872]
    assert table.loc["inception5b", ["5 × 5, naive", "5 × 5, narrowed"]].tolist() == [2_662_400, 193_536]
    assert table["times"].round(1).loc[["inception3a", "inception5a"]].tolist() == [2.4, 5.1]
    ways = tables.towards_inception().set_index("")
    assert ways["maps"].tolist() == [256, 256, 416, 256]
    assert ways.loc["Inception", "weights"] == 163_328 and ways["weights"].idxmin() == "Inception"


def test_what_the_paper_counts():
    assert round(tables.times_fewer("main"), 2) == 8.71 and round(tables.times_fewer("training"), 2) == 4.56
    assert round(tables.times_fewer("no classifier"), 1) == 10.2
    assert (tables.layers_deep(), tables.layers_deep("with")) == (22, 27)
    assert round(tables.billion_multiply_adds(), 3) == 1.583
    assert [tables.pooled_units(h) for h in "12"] == [4 * 4 * 512, 4 * 4 * 528]
    assert tables.narrower_modules() == 4 and tables.wide_share().idxmax() == "inception4d"
    assert tables.beside_table_1().loc["conv2", "weights / 1024"] == 112.0
    assert round(tables.saved_by_averaging(), 1) == 51.4


def test_naive_modules_grow():
    first = Inception(192, INCEPTIONS["inception3a"], reduced=False)
    assert first.maps == 64 + 128 + 32 + 192 == 416
    assert parameters_of("main", reduced=False) > 13 * parameters_of("main")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 64}, r"image_size = 64: 4 × 4 units reach an auxiliary classifier.*without = 'pool1'"),
        ({"without": "conv1"}, "without = 'conv1'; accepted for googlenet are None, pool1, pool2, pool3, pool4"),
        ({"widht": 1}, "unknown change 'widht'; accepted are width, image_size, without, normalization, reduced"),
        (
            {"without": "pool3 heads"},
            "without = 'pool3 heads'; accepted for googlenet are None, pool1, .*, auxiliaries",
        ),
        ({"normalization": "lrn"}, "normalization = 'lrn'; accepted for googlenet are own, batch"),
        ({"width": float("inf")}, "width = inf; accepted are numbers above 0, up to 100"),
        ({"image_size": 10**9}, "image_size = 1000000000; accepted are whole numbers above 0"),
        ({"width": 50.0}, r"a net of \d\.\de\+10 weights"),
        ({"width": 0.0}, "width = 0.0; accepted are numbers above 0"),
    ],
)
def test_impossible_nets_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        googlenet(10, **changes)


def test_auxiliaries_can_be_left_out_beside_a_pool(net):
    alone = googlenet(7, seed=0, **SMALL | {"without": "pool3 auxiliaries"})
    assert not alone.heads and alone.layers == net.layers
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in alone.state_dict().items())


def test_batch_normalisation_follows_every_convolution_and_replaces_the_other(net):
    batch = googlenet(7, seed=0, normalization="batch", **SMALL).train()
    kinds = [type(module).__name__ for module in batch.modules()]
    assert kinds.count("BatchNorm2d") == kinds.count("Conv2d") == 59 and "LocalResponseNorm" not in kinds
    own = net.state_dict()
    same = [name for name in batch.state_dict() if name in own and own[name].shape == batch.state_dict()[name].shape]
    assert {"conv1.weight", "inception3a.one.0.weight", "fc.weight"} < {*same}
    assert all(torch.equal(batch.state_dict()[n], own[n]) for n in ("conv1.weight", "inception3a.one.0.weight"))
    seen = []
    batch.inception4a.three[1].register_forward_hook(lambda layer, given, out: seen.append(out))
    batch(torch.rand(8, 3, 64, 64) * 255)
    assert torch.allclose(seen[0].mean((0, 2, 3)), torch.zeros(seen[0].shape[1]), atol=1e-4)
    assert (seen[0].std((0, 2, 3)) > 0.9).all() and (batch.batch_conv1.running_mean != 0).any()


def test_the_same_seed_gives_the_same_weights():
    one, other = (googlenet(7, seed=3, **SMALL).state_dict() for _ in range(2))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


# -------------------------------------------------------------------------------------------------------- figures


def test_saved_weights_are_drawn_to_scale_and_named():
    figure = figures.saved(tables.reductions().iloc[:2])
    bars = [bar.get_width() for bar in figure.axes[1].patches]
    assert np.allclose(bars[:3], [0.1536, 0.6144, 0.015872])
    assert "9.7×" in [text.get_text().strip() for text in figure.axes[1].texts]
    assert "Rows: 3a; 3b" in figure.alt


def test_large_differences_of_table_1_are_written_beside_their_marks():
    off = pd.DataFrame({"parameters": [-70.6, 1.0], "multiply-adds": [0.2, 6.0]}, index=["conv1", "inception5a"])
    figure = figures.printed(off)
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["−71 %", "+6 %"]


def test_gradients_and_variants_name_their_lines():
    sizes = pd.Series({"conv2_reduce": 1.0, "inception3a": 0.1})
    figure = figures.gradients({"one rule": {"main loss": sizes, "batch norm": 2 * sizes}})
    assert figure.axes[0].get_yscale() == "log" and "main loss; batch norm" in figure.alt
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1 × 1", "3a"]
    table = pd.DataFrame({0: [90.0, 80.0], 1: [95.0, 70.0]}, index=[1, 2])
    figure = figures.variants({"AlexNet": table}, 96, "epoch", "error")
    assert figure.axes[0].lines[2].get_ydata().tolist() == [92.5, 75.0] and "AlexNet (2)" in figure.alt


def test_five_nets_are_told_apart_in_grey():
    table = pd.DataFrame({0: [90.0, 80.0]}, index=[1, 2])
    legend = figures.variants({name: table for name in "abcde"}, 96, "epoch", "error").legends[0]
    looks = [(line.get_linestyle(), line.get_marker()) for line in legend.get_lines()]
    assert len(set(looks)) == len(looks) == 5


# ---------------------------------------------------------------------------------------------------- in the loop


def small(**changes):
    return settings(**{"net": "googlenet", "without": "pool3", "batch_size": 16} | changes)


def test_the_loop_trains_it_and_it_comes_back(place):
    record = train(small(epochs=8, learning_rate=0.004))
    losses = record.history.query("split == 'train'")["loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    net = load_net(record)
    assert net.heads and net(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_what_googlenet_has_of_its_own_cannot_be_changed(place):
    store = load_dataset("embedded")["train"]
    assert resolve(small(), store).initialisation == "fan_in"
    with pytest.raises(ValueError, match="dropout = 0.2; googlenet has its own, and accepts only the default 0.5"):
        resolve(small(dropout=0.2), store)
    with pytest.raises(ValueError, match="columns = 2; googlenet is not divided"):
        resolve(small(columns=2, devices=2), store)


def test_the_published_recipe_averages_distorts_and_resumes(place):
    record = train(small(recipe="googlenet", epochs=4, name="unbroken"))
    state = torch.load(record.folder / "checkpoint.pt", weights_only=True)
    assert any(not torch.equal(state["net"][name], value) for name, value in state["averaged"].items())

    class Enough(Exception):
        pass

    def stop(history):
        if history["epoch"].max() == 3:
            raise Enough

    broken = small(recipe="googlenet", epochs=4, name="broken")
    with pytest.raises(Enough):
        train(broken, stop)
    again = load_net(train(broken)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state["averaged"].items())


def test_running_statistics_survive_an_interruption(place):
    whole = load_net(train(small(normalization="batch", epochs=2, name="unbroken"))).state_dict()

    class Enough(Exception):
        pass

    def stop(history):
        raise Enough

    broken = small(normalization="batch", epochs=2, name="broken")
    with pytest.raises(Enough):
        train(broken, stop)
    again = load_net(train(broken)).state_dict()
    assert whole["batch_conv1.num_batches_tracked"] == 6
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_what_replicas_record_are_the_errors_of_the_net_that_is_saved(place):
    """Each replica has running statistics of its own images; that of the first is saved."""
    record = train(small(normalization="batch", devices=2))
    stores = load_dataset("embedded")
    again = evaluate(load_net(record), stores["val"], mean_of(stores["train"], 64))
    assert record.summary["metrics"]["val"]["1 view"] == pytest.approx(again, rel=1e-5)
    last = record.history.query("split == 'val'").iloc[-1]
    assert last[["loss", "top1", "top5"]].to_dict() == pytest.approx(again, rel=1e-5)


@pytest.mark.parametrize(("batch_size", "devices", "fewest"), [(47, 1, 1), (1, 1, 1), (47, 2, 1), (45, 2, 3)])
def test_a_batch_without_statistics_is_refused_before_the_work(place, batch_size, devices, fewest):
    """Of 48 images of 56 pixels: an auxiliary classifier sees one unit of each map."""
    store, asked = load_dataset("embedded")["train"], {"normalization": "batch", "devices": devices}
    message = f"batch_size = {batch_size}: of 48 images an epoch's last batch has {fewest}, for {devices} device.*"
    with pytest.raises(ValueError, match=f"{message}image_size = 56; accepted is .* at least {2 * devices}$"):
        resolve(small(image_size=56, batch_size=batch_size, **asked), store)
    assert resolve(small(image_size=64, batch_size=batch_size, **asked), store).batch_size == batch_size
    assert resolve(small(image_size=56, batch_size=44, **asked), store).batch_size == 44


def test_the_average_is_the_mean_of_the_last_steps(place, monkeypatch):
    from alexnet_lib import training

    seen, step = [], training.train_step

    def watched(run, state, *rest):
        out = step(run, state, *rest)
        seen.append(state.net.fc.weight.detach().clone())
        return out

    monkeypatch.setattr(training, "train_step", watched)
    net = load_net(train(small(recipe="googlenet", epochs=4)))
    assert len(seen) == 12  # three steps an epoch; the last quarter is the last epoch
    torch.testing.assert_close(net.fc.weight, torch.stack(seen[-3:]).mean(0))


def test_replicas_share_the_masks_of_the_whole_batch(place):
    run = resolve(small(), load_dataset("embedded")["train"])
    net = build_net(run, 3).train()
    job = Job(replica=1, replicas=2)
    job.batch = 6
    part = own_column(net, job)
    assert sum(type(layer).__name__ == "ColumnDropout" for layer in part.modules()) == 3
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 3, 64, 64), np.float32))
    torch.manual_seed(0)
    whole = [answer[3:] for answer in net(x)]
    torch.manual_seed(0)
    for mine, theirs in zip(part(x[3:]), whole, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_two_replicas_compute_what_one_device_does():
    options = {"columns": 1, "net": "googlenet", "width": 0.05, "image-size": 96, "batch": 4, "steps": 2}
    (line,) = torchrun(2, "columns", *(str(part) for key, value in options.items() for part in (f"--{key}", value)))
    found = json.loads(line)
    assert (found["replicas"], found["columns"]) == (2, 1)
    assert max(found[what] for what in ("outputs", "gradients", "weights")) < 1e-9


def test_many_views_of_a_net_that_answers(net):
    images, mean = np.random.default_rng(0).integers(0, 256, (2, 73, 73, 3), np.uint8), torch.zeros(3, 64, 64)
    found = predict(net, images, mean, views=144)
    by_hand = predict(net, many_views(images[1], 64), mean).mean(0)
    torch.testing.assert_close(found[1], by_hand, rtol=1e-4, atol=1e-6)


def test_the_parameters_of_batch_normalisation_are_counted():
    net = skeleton(10, aux=False, normalization="batch")
    assert modules(net)["parameters"].sum() == sum(p.numel() for p in net.parameters())


def test_every_classifier_starts_quietly_and_all_else_by_its_inputs():
    """The auxiliaries' last layers started nine times as loud as the main one, and drowned its gradient."""
    layers = learned_layers(googlenet(200, seed=0, width=0.25, image_size=64, without="pool3"))
    quiet = ("conv1", "fc", "heads.inception4a.fc", "heads.inception4d.fc")
    for name, layer in layers.items():
        std = 0.01 if name in quiet else (2 / layer.weight[0].numel()) ** 0.5
        few = layer.weight.numel()
        assert layer.weight.std().item() == pytest.approx(std, rel=4 / few**0.5), name
    assert set(quiet) < set(layers)
