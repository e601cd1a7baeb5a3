"""§3: shapes, parameters and arithmetic of the printed network, from the live model."""

import re
from math import inf, nan

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alexnet_lib import alexnet, crossings, fit, from_torchvision, googlenet_skeleton, predict
from alexnet_lib.architecture import CONVOLUTIONS, NETS, layer_shapes, skeleton
from alexnet_lib.cifar_nets import cifar_net
from alexnet_lib.dropout import Dropout
from alexnet_lib.figures import diagrams
from alexnet_lib.paths import NOTEBOOKS
from alexnet_lib.study.anatomy import specification, summarise, trace, zeros_read


@pytest.fixture(scope="module")
def paper():
    return alexnet("paper", seed=0).eval()


@pytest.fixture(scope="module")
def table(paper):
    return summarise(paper)


def test_sixty_million_parameters(paper, table):
    assert sum(p.numel() for p in paper.parameters()) == 60_965_224
    assert table["parameters"].to_dict() == {
        "conv1": 34_944,
        "pool1": 0,
        "conv2": 307_456,
        "pool2": 0,
        "conv3": 885_120,
        "conv4": 663_936,
        "conv5": 442_624,
        "pool5": 0,
        "fc6": 37_752_832,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    }


def test_shapes_are_those_of_figure_2(paper):
    outputs = trace(paper, torch.zeros(2, 3, 224, 224))
    shapes = {name: tuple(outputs[name].shape[1:]) for name in ("conv1", "pool1", "conv2", "pool2", "conv3")}
    assert shapes == {
        "conv1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "conv2": (256, 27, 27),
        "pool2": (256, 13, 13),
        "conv3": (384, 13, 13),
    }
    assert tuple(outputs["pool5"].shape) == (2, 256, 6, 6) and tuple(outputs["fc8"].shape) == (2, 1000)


def test_neurons_multiply_adds_and_fields(table):
    assert table["neurons"].sum() == 659_272
    assert table.loc["conv1", "neurons"] == 290_400 and 55 * 48 * 96 == 253_440
    assert table["multiply_adds"].sum() == 724_406_816
    fields = table[["field", "stride"]].apply(tuple, axis=1).to_dict()
    assert fields["conv1"] == (11, 4) and fields["conv5"] == (163, 16) and fields["pool5"] == (195, 32)


def test_receptive_field_is_what_a_unit_depends_on():
    """Only the pixels of the computed field reach a unit of pool1, and all of them may."""
    net = alexnet("paper", 3, width=0.1, seed=1)
    image = torch.rand(1, 3, 224, 224, requires_grad=True)
    x = image
    for name, layer in net.named_children():
        x = layer(x) if not name.startswith("pool") else torch.nn.functional.avg_pool2d(x, 3, 2)
        if name == "pool1":
            break
    x[0, :, 5, 7].sum().backward()
    rows, columns = (image.grad[0].abs().sum((0, d)).nonzero().flatten() for d in (2, 1))
    assert (rows.min(), rows.max()) == (5 * 8, 5 * 8 + 18)
    assert (columns.min(), columns.max()) == (7 * 8, 7 * 8 + 18)


def test_columns_talk_only_where_the_paper_says(paper):
    groups = {name: layer.groups for name, layer in paper.named_children() if name.startswith("conv")}
    assert groups == {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}
    assert paper.norm1.columns == paper.norm2.columns == 2


def test_order_is_relu_norm_pool(paper):
    names = [name for name, _ in paper.named_children()]
    assert names[:6] == ["pad1", "conv1", "relu1", "norm1", "pool1", "conv2"]
    assert names[-1] == "fc8" and names.count("drop6") == names.count("drop7") == 1


def test_224_pixels_with_three_zeros_are_227(paper):
    image = torch.rand(1, 3, 224, 224)
    padded = torch.nn.functional.pad(image, (0, 3, 0, 3))
    torch.testing.assert_close(paper.conv1(paper.pad1(image)), paper.conv1(padded))
    assert torch.nn.functional.conv2d(image, paper.conv1.weight, stride=4).shape[-1] == 54
    assert paper.conv1(padded).shape[-1] == 55


def test_ungrouped_layers_would_be_noticed():
    ungrouped = sum(n * (k * k * c + 1) for n, k, c in [(96, 11, 3), (256, 5, 96), (384, 3, 256), (384, 3, 384)])
    ungrouped += 256 * (9 * 384 + 1) + 4096 * 9217 + 4096 * 4097 + 1000 * 4097
    assert ungrouped == 62_378_344


@pytest.mark.parametrize(
    ("width", "image_size", "classes"), [(0.25, 64, 24), (0.5, 112, 10), (0.01, 224, 3), (1, 67, 2)]
)
def test_other_sizes_run(width, image_size, classes):
    net = alexnet("paper", classes, width=width, image_size=image_size, seed=0)
    out = net(torch.zeros(2, 3, image_size, image_size))
    assert out.shape == (2, classes) and out.isfinite().all()
    assert all(layer.out_channels % 2 == 0 for name, layer in net.named_children() if name.startswith("conv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "alexnet"}, "net = 'alexnet'; accepted are paper, code2012, owt2014, one_gpu, six_conv"),
        ({"widht": 2}, "unknown change 'widht'; accepted are width, .*, geometry"),
        ({"without": "conv6"}, "without = 'conv6'; accepted for paper are None, conv1, .*, fc6, fc7"),
        ({"without": "fc8"}, "without = 'fc8'"),
        ({"pooling": "max"}, "pooling = 'max'; accepted for paper are overlapping, non_overlapping"),
        ({"activation": "gelu"}, "activation = 'gelu'; accepted .* relu, tanh, logistic"),
        ({"normalization": "batch"}, "normalization = 'batch'; accepted .* own, lrn, None"),
        ({"name": "owt2014", "normalization": "lrn"}, "owt2014 has no such layers"),
        ({"geometry": "same"}, "geometry = 'same'; accepted .* own, ceil, padding2"),
        ({"image_size": 50}, "image_size = 50: only . × . units reach"),
        ({"width": 0}, "width = 0"),
        ({"num_classes": 0}, "num_classes = 0"),
        ({"num_classes": 2.5}, "num_classes = 2.5; accepted are whole numbers"),
        ({"num_classes": 10**12}, "num_classes = 1000000000000; .* up to 1,000,000"),
        ({"image_size": 0}, "image_size = 0"),
        ({"image_size": 10**9}, "image_size = 1000000000; .* up to 10,000"),
        ({"image_size": "224"}, "image_size = '224'"),
        ({"image_size": 9999}, r"image_size = 9999, .*: a net of 1\.\de\+11 weights; accepted are up to 2e\+09"),
        ({"width": 20}, r"width = 20, .*: a net of 2\.\de\+10 weights"),
        *(({"width": w}, f"width = {re.escape(repr(w))}; .* up to 100") for w in (1e9, 1e300, inf, nan, -1, "1")),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"dropout": nan, "name": "owt2014"}, "dropout = nan"),
    ],
)
def test_impossible_nets_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        alexnet(**{"name": "paper", **arguments})


# ------------------------------------------------------------------------------------------------ the other named nets


def names(net):
    return [name for name, _ in net.named_children()]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("paper", 60_965_224),
        ("code2012", 60_965_224),
        ("owt2014", 61_100_840),
        ("one_gpu", 59_798_312),
        ("six_conv", 61_555_304),
    ],
)
def test_sizes_of_the_named_nets(name, parameters):
    table = specification(name)
    net = alexnet(name, seed=0)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert list(table.index) == names(net) and table.loc["fc8", "output"] == "1000"


def test_the_net_of_2012_in_its_own_order():
    net = alexnet("code2012", 10, width=0.1, seed=3)
    order = " ".join(names(net))
    assert order.startswith("pad1 conv1 norm1 pool1 relu1 conv2 relu2 norm2 mapnorm2 pool2 conv3")
    assert "conv5 pool5 relu5 flatten" in order
    for norm in (net.norm1, net.norm2):
        assert (norm.convention, norm.k, norm.alpha, norm.columns) == ("code2012", 2, 1e-4, 2)
    assert (net.mapnorm2.size, net.mapnorm2.alpha, net.mapnorm2.beta, net.mapnorm2.k) == (5, 1e-3, 0.75, 1)
    for name, std in {"conv2": 0.01, "conv3": 0.03, "conv4": 0.03, "conv5": 0.03, "fc6": 0.01}.items():
        assert getattr(net, name).weight.std().item() == pytest.approx(std, rel=0.05)
    assert all(bool((getattr(net, name).bias == 1).all()) for name in ("conv2", "conv4", "conv5", "fc6", "fc7"))


def test_the_half_net_keeps_its_last_convolution_and_its_hidden_layers():
    """layers-145-half.cfg: 98.1 % of the parameters, more multiply-adds than a device of the pair has (§3.2)."""
    net = alexnet("one_gpu", seed=0)
    maps = {name: getattr(net, name).out_channels for name in CONVOLUTIONS}
    assert maps == {"conv1": 48, "conv2": 128, "conv3": 192, "conv4": 192, "conv5": 256}
    assert net.fc6.out_features == net.fc7.out_features == 4096
    assert all(getattr(net, name).groups == 1 for name in maps) and net.norm1.columns == 1
    table = summarise(net)
    assert table["multiply_adds"].sum() == pytest.approx(391.5e6, abs=5e4)
    assert table["parameters"].sum() / 60_965_224 == pytest.approx(0.981, abs=5e-4)


@pytest.mark.parametrize("name", ["paper", "code2012"])
def test_a_unit_depends_on_as_many_pixels_as_its_field_is_wide(name):
    """The normalisation within maps widens it, too."""
    side = 448  # so that the border cuts off nothing
    net = alexnet(name, 3, width=0.1, image_size=side, seed=0).eval()
    images = torch.rand(4, 3, side, side, requires_grad=True)  # in one alone no maximum may lie at a window's edge
    x, table = images, summarise(net, side)
    for layer, module in net.named_children():
        if layer == "flatten":
            break
        x = module(x)
        if layer in table.index:
            middle = x[:, :, x.shape[2] // 2, x.shape[3] // 2].sum()
            (seen,) = torch.autograd.grad(middle, images, retain_graph=True)
            rows = seen.abs().sum((0, 1, 3)).nonzero()
            assert rows.max() - rows.min() + 1 == table.loc[layer, "field"], layer


def test_a_table_of_layers_has_all_of_them_or_says_so():
    net = cifar_net("conv-local-13pct")
    table = summarise(net, 24)
    assert table["parameters"].sum() == sum(p.numel() for p in net.parameters())
    assert table["share"].sum() == pytest.approx(1) and {"local3", "local4"} < set(table.index)
    with pytest.raises(ValueError, match="inception3a is Inception; accepted are layers with parameters of Conv2d"):
        summarise(googlenet_skeleton())


def test_the_sixth_convolution_sees_both_columns_and_keeps_the_side():
    net = alexnet("six_conv", 3, width=0.1, seed=0)
    assert names(net)[-10:-6] == ["conv6", "relu_conv6", "flatten", "fc6"]
    assert net.conv6.groups == 1 and bool((net.conv6.bias == 1).all())
    table = specification("six_conv")
    assert table.loc["conv6", "output"] == "256 × 6 × 6" == table.loc["pool5", "output"]


def test_torchvision_weights_load_as_they_are():
    from torchvision.models import alexnet as torchvision_alexnet

    theirs = torchvision_alexnet(num_classes=7).eval()
    net = alexnet("owt2014", 7, seed=0).eval()
    net.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 224, 224)
    torch.testing.assert_close(net(images), theirs(images))
    drops = [layer for name, layer in net.named_children() if name.startswith("drop")]
    assert len(drops) == 2 and not any(isinstance(drop, Dropout) for drop in drops)
    again = alexnet("owt2014", 7, seed=1)
    again.load_state_dict(net.state_dict())  # and our own names too
    assert torch.equal(again.fc8.weight, theirs.classifier[6].weight)


def test_torchvision_weights_bring_the_preprocessing_that_they_want():
    """A picture through torchvision's own transforms, and through preparation and `predict`."""
    from torchvision.models import AlexNet_Weights
    from torchvision.models import alexnet as torchvision_alexnet

    torch.manual_seed(0)
    theirs = torchvision_alexnet(num_classes=5).eval()
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    net, mean = from_torchvision(theirs.state_dict())
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in state.items())
    coarse = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 6, 8)).astype(np.float32))
    picture = torch.nn.functional.interpolate(coarse, (300, 400), mode="bilinear")[0].to(torch.uint8)
    expected = theirs(AlexNet_Weights.IMAGENET1K_V1.transforms()(picture)[None]).softmax(1)
    torch.testing.assert_close(predict(net, fit(picture, 256)[None].numpy(), mean), expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(
        ValueError, match="weights of conv1.weight, .*accepted is a state dict of torchvision's alexnet"
    ):
        from_torchvision(alexnet("owt2014", 5, width=0.1, seed=0).state_dict())


@pytest.mark.parametrize(
    ("name", "without"), [(name, layer) for name in NETS for layer in (*NETS[name].convolutions, "fc6", "fc7")]
)
def test_any_layer_can_go(name, without):
    net = alexnet(name, 3, width=0.05, without=without, seed=0)
    whole = alexnet(name, 3, width=0.05, seed=0)
    assert without not in names(net)
    outputs = trace(net.eval(), torch.rand(1, 3, 224, 224))
    assert outputs["fc8"].shape == (1, 3) and outputs["pool5"].shape[2:] == (6, 6)
    assert {n: tuple(x.shape[1:]) for n, x in outputs.items() if n != "input"} == layer_shapes(net)
    gone = set(names(whole)) - set(names(net))
    kinds = {layer.rstrip("0123456789").split("_")[0] for layer in gone}
    assert kinds <= {"conv", "fc", "relu", "norm", "mapnorm", "drop"} and len(gone) >= 2


def test_changes_reach_every_layer_that_they_mean():
    assert not [n for n in names(alexnet("code2012", 3, width=0.1, normalization=None, seed=0)) if "norm" in n]
    table = specification("paper", pooling="non_overlapping")
    assert [table.loc[name, "output"].split()[-1] for name in ("pool1", "pool2", "pool5")] == ["27", "13", "6"]
    assert table.loc["pool1", "kernel / stride / padding"] == "2 / 2 / 0"
    tanh = alexnet("paper", 3, width=0.1, activation="tanh", seed=0)
    assert [n for n in names(tanh) if "tanh" in n] == [f"tanh{i}" for i in range(1, 8)] and "relu1" not in names(tanh)


def test_where_the_two_geometries_read_zeros():
    """Both make 55 of 224: three zeros on two sides, or two on all four, of which the last window reads one."""
    ceil = zeros_read(alexnet("paper", 3, width=0.1, seed=0))
    assert ceil.shape == (55, 55) and ceil[:54, :54].max() == 0 and ceil[-1, 0] == 33 and ceil[-1, -1] == 57
    nets = (alexnet("owt2014", 3, width=0.1, seed=0), alexnet("paper", 3, width=0.1, geometry="padding2", seed=0))
    for even in map(zeros_read, nets):
        assert even.shape == (55, 55) and even[1:54, 1:54].max() == 0
        assert (even[0, 0], even[0, 20], even[-1, 20]) == (40, 22, 11)


def test_the_specification_reads_like_the_source():
    table = specification("code2012")
    assert table.loc["conv3", "weights / biases"] == "0.03 / 0" and table.loc["conv2", "maps"] == "128 + 128"
    assert list(table.loc[["conv1", "conv2", "conv3"], "sees"]) == ["the image", "its own column", "both columns"]
    assert "(0, 3, 0, 3)" in table.loc["pad1", "in PyTorch"] and "groups=2" in table.loc["conv4", "in PyTorch"]


@pytest.fixture(scope="module")
def cells():
    """The code of notebook 01, by cell."""
    notebook = nbformat.read(NOTEBOOKS / "01_architecture.ipynb", 4)
    return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}


@pytest.mark.parametrize(
    ("written", "instead"),
    [(", groups=2", ""), ("stride=4", "stride=2"), ("nn.Linear(4096, 1000)", "nn.Linear(4096, 1024)"), ("", "")],
)
def test_the_paper_s_sentences_notice_another_net(cells, written, instead):
    names = {"nn": nn}
    with torch.device("meta"):
        exec(cells["mine"].replace(written, instead, 1), names)
    if not written:
        return exec(cells["sentences-asserted"], names)
    with pytest.raises(AssertionError):
        exec(cells["sentences-asserted"], names)


@pytest.mark.parametrize("mistake", [None, ("talk(x)", "talk(x[::-1])"), ("norm(", "(")])
def test_the_columns_cut_by_hand_notice_a_mistake(cells, mistake):
    net = alexnet("paper", 10, width=0.1, image_size=64, seed=0).eval()
    image = 255 * torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) - 128
    names = {"theirs": net, "image": image, "torch": torch, "F": F, "nn": nn, "crossings": lambda n: crossings(n, 64)}
    pad = net.pad1.padding[1]
    exec(cells["cut-halves"], names)
    run = cells["cut-run"].replace("(0, 3, 0, 3)", f"(0, {pad}, 0, {pad})")
    if mistake is None:
        return exec(run, names)
    with pytest.raises(AssertionError):
        exec(run.replace(*mistake, 1), names)


def test_figure_2_shows_the_number_that_is_printed_wrong():
    outputs = {"input": (3, 224, 224), "conv1": (96, 55, 55), "conv2": (256, 27, 27)}
    figure = diagrams.figure_2(outputs, {"conv1": 11, "conv2": 5}, dict.fromkeys(outputs, 2), {"conv1": 253_440})
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "290,400" in words and [word for word in words if "printed" in word] == ["printed:\n253,440"]
    assert {"GPU 1", "GPU 2"} < set(words)
    alone = diagrams.figure_2(outputs, {"conv1": 11, "conv2": 5}, dict.fromkeys(outputs, 1), {})
    assert not [text.get_text() for text in alone.axes[0].texts if "GPU" in text.get_text()]


def test_the_loudest_answer_of_a_kernel_is_framed_in_both_pictures():
    answers = torch.zeros(5, 5)
    answers[1, 3] = 1
    figure = diagrams.slid_kernel(torch.zeros(27, 27, 3).byte().numpy(), torch.ones(11, 11).numpy(), answers.numpy(), 4)
    assert [figure.axes[i].patches[0].get_xy() for i in (0, 2)] == [(11.5, 3.5), (1.5, -0.5)]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 8, 3, dilation=2),
        nn.Conv2d(3, 8, (3, 5)),
        nn.Conv2d(3, 8, 3, padding="same"),
        nn.ConvTranspose2d(3, 8, 3, 2),
        nn.MaxPool2d(3, 2, dilation=2),
        nn.AdaptiveAvgPool2d(6),
        nn.Upsample(scale_factor=2),
        nn.Flatten(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_of_unknown_shape_is_refused(layer):
    with pytest.raises(ValueError, match=type(layer).__name__):
        layer_shapes(nn.Sequential(layer), 32)


@pytest.mark.parametrize("size", [28, 29, 30, 31])
@pytest.mark.parametrize("window", [(2, 2), (2, 3), (3, 2), (3, 3), (3, 2, 1), (2, 2, 1), (2, 3, 1), (5, 2, 2)])
@pytest.mark.parametrize("ceil", [False, True])
def test_a_pool_s_shape_is_that_of_torch(size, window, ceil):
    pool = nn.MaxPool2d(*window, ceil_mode=ceil)
    assert layer_shapes(nn.Sequential(pool), size)["0"] == pool(torch.zeros(1, 3, size, size)).shape[1:]


def test_a_net_is_not_described_as_one_of_another_size():
    small = skeleton("paper", image_size=96)
    assert crossings(small, 96)["values"].iloc[0] < crossings(skeleton("paper"))["values"].iloc[0]
    for describe in (summarise, crossings, layer_shapes):
        with pytest.raises(ValueError, match=r"takes \d+ units and gets \d+: pictures of another size"):
            describe(small)
