"""Runs of seconds, on a handful of tiny pictures in private folders."""

import numpy as np

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
