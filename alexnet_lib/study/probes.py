"""§5, a net before training: its first batch, and how fast its updates are."""

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..colours import ColourPCA
from ..dataset import Store
from ..evaluation import mean_of
from ..files import read_table
from ..learning import PaperSGD, parameter_groups, recipe
from ..loader import ahead, batches, make_batches
from ..paths import REFERENCE
from ..runs.bfloat16 import arithmetic_in
from ..runs.settings import TrainSettings
from ..training import NonFiniteLoss


def first_batch(run: TrainSettings, store: Store, count: int) -> Tensor:
    """The first inputs of the first epoch, (count, 3, crop, crop), on the CPU."""
    run = dataclasses.replace(run, batch_size=count, device="cpu")
    return next(batches(run, store, mean_of(store, run.image_size), 0, 0))[0]


def steps_per_second(net: nn.Sequential, device: str, batch_size: int, image_size: int = 224, steps: int = 3) -> float:
    """How many updates of a net a device makes in a second, on random pixels, without the first."""
    net = net.to(device, memory_format=torch.channels_last).train()
    optimizer = PaperSGD(net.parameters(), lr=0.0001)
    pixels = torch.rand(batch_size, 3, image_size, image_size) * 255 - 128
    images = pixels.to(device, memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    for step in range(steps + 1):
        if step == 1:
            began = time.perf_counter()
        update(net, optimizer, images, labels)
    return steps / (time.perf_counter() - began)


def update(net: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, bf16=False) -> float:
    """One update of a net, computed in bfloat16 if asked; returns its loss, for which it waits for the device."""
    optimizer.zero_grad()
    with arithmetic_in(images.device.type, "bf16" if bf16 else "fp32"):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits = net(images)
        loss = F.cross_entropy(logits.float() if bf16 else logits, labels)
        loss.backward()
    optimizer.step()
    return loss.item()


def losses_until(net: nn.Module, run: TrainSettings, store: Store, low: float, window: int, steps: int) -> list[float]:
    """Train a net by a resolved run's constant rate: the mean losses of windows of steps, until one is below `low`.

    Of so many steps at most, in whole windows.

    Raises:
        NonFiniteLoss: the net has diverged, which is not the same as a stall.
    """
    optimizer = PaperSGD(parameter_groups(net, recipe(run.recipe)), run.learning_rate)
    torch.manual_seed(run.seed)  # of the dropout masks
    means, losses = [], []
    for images, labels in endless_batches(run, store):
        losses.append(update(net, optimizer, images, labels, run.precision == "bf16"))
        if not math.isfinite(losses[-1]):
            raise NonFiniteLoss(f"the loss is {losses[-1]} at step {len(losses)}")
        if len(losses) % window == 0:
            means.append(sum(losses[-window:]) / window)
            if means[-1] < low or len(means) >= steps // window:
                return means


def random_store(count: int, size: int = 256, classes: int = 1000) -> Store:
    """Pictures of noise in memory, (count, size, size, 3), for measurements of time."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    labels, names = np.arange(count) % classes, [str(i) for i in range(classes)]
    pca, mean = ColourPCA(np.array([100.0, 10.0, 1.0]), np.eye(3)), np.full((size, size, 3), 128, np.float32)
    return Store(Path(), images, labels, mean, pca, names, {"fingerprint": "noise"})


def timeline(run: TrainSettings, net: nn.Module, store: Store, steps: int = 3, in_thread=False) -> pd.DataFrame:
    """When the batches of a resolved run are made and its steps taken, in the order of their ends.

    Columns: what ("batch" or "step"), start and end, in seconds from the end of the first step, which finds memory and
    kernels. in_thread: whether another thread makes the batches ahead.
    """
    spans: list[tuple[str, float, float]] = []

    def timed(items: Iterator) -> Iterator:
        began = time.perf_counter()
        for item in items:
            spans.append(("batch", began, time.perf_counter()))
            yield item
            began = time.perf_counter()

    made = timed(endless_batches(run, store))
    data, optimizer = ahead(made) if in_thread else made, PaperSGD(net.parameters(), lr=0.0001)
    for _ in range(steps + 1):
        images, labels = next(data)
        began = time.perf_counter()
        update(net.train(), optimizer, images, labels)
        spans.append(("step", began, time.perf_counter()))
    data.close()
    table = pd.DataFrame(spans, columns=["what", "start", "end"])
    zero = table.query("what == 'step'")["end"].iloc[0]
    return table[table["end"] > zero].assign(start=lambda t: t["start"] - zero, end=lambda t: t["end"] - zero)


def endless_batches(run: TrainSettings, store: Store) -> Iterator:
    """The batches of one epoch after the other."""
    for epoch in itertools.count():
        yield from make_batches(run, store, mean_of(store, run.image_size), epoch)


def batch_seconds(run: TrainSettings, store: Store, augmentation: str, count: int = 10) -> float:
    """Seconds to make a batch of a run with this augmentation: the median of `count`, after as many that are not timed.

    The first ones of a process take several times as long, whatever they do.
    """
    run, times = dataclasses.replace(run, augmentation=augmentation), []
    data = endless_batches(run, store)
    for _ in range(2 * count):
        began = time.perf_counter()
        next(data)[0][0, 0, 0, 0].item()  # waits for the device
        times.append(time.perf_counter() - began)
    return float(np.median(times[count:]))


def hidden_share(spans: pd.DataFrame) -> float:
    """The share of the time spent on making batches, in a `timeline`, during which a step is being taken.

    From the end of the first step, which the timeline leaves out, to the end of the last.
    """
    made, steps = (spans[spans["what"] == what][["start", "end"]].to_numpy() for what in ("batch", "step"))
    made = made.clip(0, steps.max())
    overlap = np.minimum(made[:, None, 1], steps[None, :, 1]) - np.maximum(made[:, None, 0], steps[None, :, 0])
    return float(overlap.clip(min=0).sum() / (made[:, 1] - made[:, 0]).sum())


def augmentation_share(file: Path = REFERENCE / "augmentation-cost" / "cost.csv") -> float:
    """The time to make a batch in per cent of the full-size net's step: the worst case of the kept measurement."""
    table = read_table(file, "all", "step")
    return float((100 * table["all"] / table["step"]).max())


def search_speedup(bits: str, file: Path = REFERENCE / "search-speed" / "seconds.csv") -> float:
    """How many times as fast codes of so many bits are searched as real numbers, in the kept measurement."""
    table = read_table(file, "bits", "times")
    return float(table.set_index("bits").loc[int(bits), "times"])
