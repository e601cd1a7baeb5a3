"""Runs of seconds, on a handful of tiny pictures in private folders."""

from contextlib import contextmanager

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook

from alexnet_lib.data.preparation import write_store
from alexnet_lib.runs.settings import TrainSettings

NAME = "embedded"  # the name under which the tiny store is put into a private data folder


def prepare_place(folder, monkeypatch):
    """Private folders with a prepared store of 48 pictures of three plain colours and noise."""
    for split, seed in (("train", 0), ("val", 1)):
        generator = np.random.default_rng(seed)
        labels = np.arange(48) % 3
        images = generator.integers(0, 90, (48, 73, 73, 3), np.uint8)
        images[np.arange(48), :, :, labels] += 120
        store = folder / "data" / "prepared" / f"{NAME}-73" / split
        write_store(store, images, labels, ["red", "green", "blue"], {"source": "test"})
    for name in ("DATA", "RUNS"):
        monkeypatch.setenv(f"ALEXNET_{name}", str(folder / name.lower()))
    monkeypatch.setenv("ALEXNET_PROGRESS", "none")
    return folder


def settings(**changes):
    return TrainSettings(**{"dataset": NAME, "width": 0.05, "epochs": 3, "batch_size": 12, "device": "cpu"} | changes)


class OnMps(torch.Tensor):
    """Stands in for a tensor on Apple's GPU, which has no float64: it must come to the CPU first."""

    came = 0

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        if function is torch.Tensor.double or function is torch.Tensor.to and torch.float64 in arguments:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        found = super().__torch_function__(function, types, arguments, options or {})
        if function is not torch.Tensor.cpu:
            return found
        cls.came += 1
        return found.as_subclass(torch.Tensor)


@contextmanager
def on_mps():
    """All that nets answer are such tensors."""
    hook = register_module_forward_hook(lambda module, inputs, output: output.as_subclass(OnMps))
    OnMps.came = 0
    try:
        yield OnMps
    finally:
        hook.remove()
