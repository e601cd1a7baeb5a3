"""Local response normalisation, forward and backward, against torch.nn.LocalResponseNorm, in turns, in one run.

At the two places where AlexNet has it, with the paper's batch, and at the first layer of the CIFAR-10 net; float32,
channels last in memory. Printed are the median of the ratios, for our operator as it is and through torch.compile
(where there is no compiler both are the same), and the largest errors of output and gradient against float64, as a
share of the largest value.
"""

import argparse
import statistics
import sys
import time

import numpy as np
import torch
from torch import nn

from alexnet_lib import LocalResponseNorm

SHAPES = {"conv1": (128, 96, 55, 55), "conv2": (128, 256, 27, 27), "CIFAR-10": (128, 64, 24, 24)}
ROUNDS = 3
CHECKED = 4  # images that are also computed in float64
DEVIATION = 60.0  # of what a first layer gives for pixels on the 0-255 scale


def inputs(shape):
    """Activations and the gradient of a loss with respect to the outputs, channels last."""
    generator = np.random.default_rng(0)
    arrays = (generator.standard_normal(shape, dtype=np.float32) * scale for scale in (DEVIATION, 1.0))
    x, grad = (torch.from_numpy(array).to(memory_format=torch.channels_last) for array in arrays)
    return x.requires_grad_(), grad


def both_ways(norm, x, grad):
    y = norm(x)
    return y, torch.autograd.grad(y, x, grad)[0]


def seconds(norm, x, grad) -> float:
    began = time.perf_counter()
    both_ways(norm, x, grad)
    return time.perf_counter() - began


def largest_error(norm, x, grad) -> str:
    """Of output and gradient, against the same operator in float64."""
    few = [t[:CHECKED].detach().clone(memory_format=torch.channels_last) for t in (x, grad)]
    exact = both_ways(LocalResponseNorm("code2012"), few[0].double().requires_grad_(), few[1].double())
    found = both_ways(norm, few[0].requires_grad_(), few[1])
    errors = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact, strict=True)]
    return " and ".join(f"{error:.0e}" for error in errors)


def main(arguments=None) -> None:
    argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0]).parse_args(arguments)
    norms = {
        "torch": nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),
        "ours": LocalResponseNorm("code2012"),
        "ours compiled": LocalResponseNorm("code2012", compiled=True),
    }
    for place, shape in SHAPES.items():
        x, grad = inputs(shape)
        errors = {name: largest_error(norm, x, grad) for name, norm in norms.items()}  # warms up as well
        rounds = [[seconds(norm, x, grad) for norm in norms.values()] for _ in range(ROUNDS)]
        for number, name in enumerate(norms):
            ratio = statistics.median(times[0] / times[number] for times in rounds)
            median = 1000 * statistics.median(times[number] for times in rounds)
            print(f"{place} {shape}, {name}: {median:.0f} ms, ratio {ratio:.2f}, errors {errors[name]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
