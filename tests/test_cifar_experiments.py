"""The runs of §3.3's claim that notebook 03 asks for."""

import dataclasses

import pytest

from alexnet_lib.experiments.cifar_experiments import lrn_pair
from alexnet_lib.experiments.lrn_records import LRN_PAIRS
from alexnet_lib.runs.fields import check
from alexnet_lib.runs.notebooks import LrnSettings


def test_the_notebooks_two_nets_differ_in_the_normalisation_only():
    asked = lrn_pair(check(LrnSettings, {"dataset": "embedded32", "epochs": 3, "seed": 7}))
    assert dataclasses.replace(asked["without"], net=LRN_PAIRS["clean"][1]) == asked["with"]
    assert (asked["with"].stages, asked["with"].seed, asked["with"].image_size) == (((3, 1.0),), 7, 16)
    large = lrn_pair(LrnSettings(dataset="cifar10"))["without"]
    assert (large.stages, large.image_size, large.batch_size) == (((20, 1.0),), 24, 128)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "embedded"}, "dataset = 'embedded'; accepted is 'auto', or 'embedded32' or 'cifar10'"),
        ({"image_size": 40}, "image_size = 40; accepted is 'auto', or less than or equal to 32"),
        ({"epohcs": 3}, "unknown parameter 'epohcs'; did you mean 'epochs'? accepted are dataset, image_size, epochs"),
    ],
)
def test_the_notebooks_parameters_are_checked(values, message):
    with pytest.raises(ValueError) as error:
        check(LrnSettings, values)
    assert message in str(error.value)
