"""The checks of notebook 02 fail when what the reader writes and the library no longer agree."""

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alexnet_lib import PaperSGD, cifar_net
from alexnet_lib.figures import curves
from alexnet_lib.paths import NOTEBOOKS
from alexnet_lib.runs import ReluSettings

CELLS = {cell.id: cell.source for cell in nbformat.read(NOTEBOOKS / "02_relu_vs_tanh.ipynb", 4).cells}


@pytest.fixture
def names():
    """What the cells find, with 64 random pictures for those of a collection."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=generator)
    names = {"np": np, "torch": torch, "F": F, "nn": nn, "cifar_net": cifar_net, "PaperSGD": PaperSGD, "curves": curves}
    names |= {"settings": ReluSettings(epochs=1), "as_usual": False, "there": "cpu", "side": 16, "batch_size": 32}
    names |= {"pictures": pictures, "labels": torch.arange(64) % 24, "classes": 24}
    run(names, "mine", "loop", "race")
    return names


def run(names: dict, *cells: str) -> None:
    for cell in cells:
        exec(compile(CELLS[cell], cell, "exec"), names)


def test_the_loop_gives_an_error_for_each_batch(names):
    assert [len(errors) for errors in names["errors"].values()] == [2, 2]


def test_the_net_and_the_rule_are_those_of_the_library(names):
    run(names, "race-check")
    other_net = {"cifar_net": lambda name, *given, **options: cifar_net("18pct", *given, **options | {"seed": 1})}
    other_unit = {"cifar_net": lambda *given, **options: cifar_net(*given, **options | {"activation": "relu"})}
    other_rule = {"PaperSGD": lambda *given, **options: PaperSGD(*given, **options, momentum=0.8)}
    for wrong in (other_unit, other_rule):
        with pytest.raises(AssertionError):
            run(names | wrong, "race-check")
    run(names | other_net, "race-check")  # without its normalisation the 18 % net is the same


def test_scale_of_the_pixels_and_rate_of_layer_1_are_one_thing(names):
    names |= {"textbook": [0.04, 0.04, 0.06]}
    run(names, "no-scale", "scale-is-rate-run")
    wrong = CELLS["scale-is-rate-run"].replace("s**2", "s")
    with pytest.raises(AssertionError):
        exec(wrong, names)
