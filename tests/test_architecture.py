"""§3: shapes, parameters and arithmetic of the printed network, from the live model."""

import pytest
import torch

from alexnet_lib import alexnet
from alexnet_lib.architecture import summarise, trace


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
        ({"name": "alexnet"}, "net = 'alexnet'; accepted are paper"),
        ({"image_size": 50}, "image_size = 50: only . × . pixels reach"),
        ({"width": 0}, "width = 0"),
        ({"num_classes": 0}, "num_classes = 0"),
        ({"dropout": 1.0}, "p = 1.0"),
    ],
)
def test_impossible_nets_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        alexnet(**{"name": "paper", **arguments})
