"""A training step of the 19 % net against the loop that one would otherwise write, in turns, in one run.

The other loop is the common one: a Dataset of pictures with torchvision's transforms, a DataLoader, the same layers in
the published order and in torch's default memory layout, torch.optim.SGD, and a look at the loss after every step.
Both read generated pictures of CIFAR-10's size; no data set is needed. Each has a process of its own, and they take
turns. Ours has the allocator's settings, as in `make walkthrough` and `make lab`. The other one has not, as a user
would start it; because a part of the difference is theirs, it runs a second time with them. Printed are medians of the
ratios to both: for whole pictures with reflections, as the net is published, and for crops of 24 pixels with
reflections; in float32, which is what `CifarSettings` has unless told otherwise, and, where the processor computes in
it, in bfloat16. The other loop is always in float32.
"""

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from turns import seconds, start

STEPS, ROUNDS, BATCH = 32, 7, 128


class UsualDataset(Dataset):
    """As torchvision's CIFAR10 and ImageFolder: a PIL picture through the transforms, and its label."""

    def __init__(self, images, labels, size):
        self.images, self.labels = images, labels
        crop = [transforms.RandomCrop(size)] if size < 32 else []
        normalise = transforms.Normalize((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))
        chain = [*crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise]
        self.transform = transforms.Compose(chain)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.transform(Image.fromarray(self.images[row])), self.labels[row]


def generated():
    """Pictures (N, 32, 32, 3) and labels."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (STEPS * BATCH, 32, 32, 3), np.uint8)
    return images, generator.integers(0, 10, STEPS * BATCH)


def usual_loop(size):
    """An epoch, as a function."""
    images, labels = generated()
    pool = {"kernel_size": 3, "stride": 2, "ceil_mode": True}
    side = -(-size // 8)
    net = nn.Sequential(
        *(nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(**pool)),
        *(nn.Conv2d(32, 32, 5, padding=2), nn.ReLU(), nn.AvgPool2d(**pool, count_include_pad=False)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.AvgPool2d(**pool, count_include_pad=False)),
        *(nn.Flatten(), nn.Linear(64 * side * side, 10)),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=0.004)
    loader = DataLoader(UsualDataset(images, labels, size), BATCH, shuffle=True)

    def epoch():
        total = 0.0
        for x, y in loader:
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()

    return epoch


def own_loop(size, precision):
    """An epoch, as a function."""
    from alexnet_lib.colours import ColourPCA
    from alexnet_lib.dataset import Store
    from alexnet_lib.evaluation import mean_of
    from alexnet_lib.loader import batches, in_memory
    from alexnet_lib.run_state import RunState
    from alexnet_lib.runs.cifar_settings import CifarSettings
    from alexnet_lib.runs.settings import resolve
    from alexnet_lib.training import train_step

    images, labels = generated()
    pca, mean = ColourPCA(np.ones(3), np.eye(3)), np.full((32, 32, 3), 120, np.float32)
    store = Store(Path(), images, labels, mean, pca, [str(i) for i in range(10)], {"fingerprint": "noise"})
    settings = CifarSettings(dataset="noise", image_size=size, input_divisor=64.0, precision=precision, device="cpu")
    run = resolve(settings, store)
    state, store = RunState(run, 10), in_memory({"train": store}, "cpu")["train"]
    state.job.batch = BATCH

    def epoch():
        state.net.train()
        for x, y in batches(run, store, mean_of(store, size), 0):
            train_step(run, state, x, y)

    return epoch


def main(arguments=None) -> None:
    argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0]).parse_args(arguments)
    from alexnet_lib.runs.bfloat16 import computes_in_bf16

    precisions = ["fp32"] + ["bf16"] * computes_in_bf16("cpu")
    for size in (32, 24):
        for precision in precisions:
            ways = (usual_loop, size), (usual_loop, size), (own_loop, size, precision)
            processes = [start(*way, allocator=kept) for way, kept in zip(ways, (False, True, True), strict=True)]
            rounds = [[process.submit(seconds).result()[0] for process in processes] for _ in range(ROUNDS)]
            for process in processes:
                process.shutdown()
            usual, kept, own = (1000 * statistics.median(column) / STEPS for column in zip(*rounds, strict=True))
            ratio, to_kept = (statistics.median(row[i] / row[2] for row in rounds) for i in (0, 1))
            what = f"{size} pixels, {precision}, {torch.get_num_threads()} threads"
            print(f"{what}: usual {usual:.0f} ms a step, ours {own:.0f} ms, ratio {ratio:.2f}")
            print(f"    usual with the allocator's settings {kept:.0f} ms a step, ratio {to_kept:.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
