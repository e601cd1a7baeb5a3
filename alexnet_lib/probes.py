"""§5, looking at a net before it is trained: its first batch, how its signal spreads, how fast its steps are."""

import dataclasses
import time

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .anatomy import trace
from .dataset import Store
from .evaluation import mean_of
from .learning import PaperSGD
from .loader import batches
from .settings import TrainSettings


def first_batch(run: TrainSettings, store: Store, count: int) -> Tensor:
    """The first inputs of the first epoch, (count, 3, crop, crop), on the CPU."""
    run = dataclasses.replace(run, batch_size=count, device="cpu")
    return next(batches(run, store, mean_of(store, run.image_size), 0, 0))[0]


def signal_spread(net: nn.Sequential, images: Tensor) -> pd.Series:
    """After each learned layer, how much a unit differs between images: the mean over units of its deviation."""
    outputs = trace(net.eval(), images)
    learned = [name for name, layer in net.named_children() if hasattr(layer, "weight")]
    return pd.Series({name: outputs[name].std(0).mean().item() for name in learned})


def steps_per_second(net: nn.Sequential, device: str, batch_size: int, image_size: int = 224, steps: int = 3) -> float:
    """How many updates of a net a device makes in a second, on random pixels; the first is not counted."""
    net = net.to(device, memory_format=torch.channels_last).train()
    optimizer = PaperSGD(net.parameters(), lr=0.0001)
    pixels = torch.rand(batch_size, 3, image_size, image_size) * 255 - 128
    images = pixels.to(device, memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    for step in range(steps + 1):
        if step == 1:
            began = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
    return steps / (time.perf_counter() - began)
