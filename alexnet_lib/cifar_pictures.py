"""CIFAR-10 in memory: a whole split as one tensor on the device, cut into views there, a batch at a time.

What an image looks like in an epoch is a function of (seed, epoch, image): it does not depend on the batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .augmentation import draw_views
from .dataset import Store
from .evaluation import in_evaluation, mean_of, top_k_error

EVALUATED_AT_ONCE = 500
# where a view begins, in widths of the border, and whether it is mirrored: one; nine as in convdata_cifar.py of 2012;
# ten as in the later program and the paper
FOUR_CORNERS_AND_CENTRE = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))
VIEWS = {
    "1 view": ((0.5, 0.5, False),),
    "9 shifts": tuple((top, left, False) for top in (0, 0.5, 1) for left in (0, 0.5, 1)),
    "10 views": tuple((*place, mirrored) for mirrored in (False, True) for place in FOUR_CORNERS_AND_CENTRE),
}


@dataclass(frozen=True)
class Pictures:
    """A whole split on the device.

    images: uint8 (N, S, S, 3). labels: (N,). mean: (3, crop, crop) float32, what is taken off every crop, wherever it
    lies. divisor: by what the rest is divided.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    divisor: float = 1.0

    @property
    def border(self) -> int:
        """By how many pixels the images are larger than the crops."""
        return self.images.shape[1] - self.mean.shape[1]


def load_pictures(stores: dict[str, Store], crop: int, divisor: float = 1.0, device="cpu") -> dict[str, Pictures]:
    """The splits of a data set in a device's memory; the mean is that of the training images."""
    mean = mean_of(stores["train"], crop).to(device)
    return {
        split: Pictures(
            torch.from_numpy(np.array(store.images)).to(device),
            torch.from_numpy(store.labels).to(device),
            mean,
            divisor,
        )
        for split, store in stores.items()
    }


def cut(pictures: Pictures, rows: Tensor, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """A view of each of the images `rows`, (B,): float32 (B, 3, crop, crop), ready for a net.

    views: top and left in pixels, and whether mirrored; (B,) each.
    """
    top, left, mirrored = views
    side = pictures.mean.shape[1]
    windows = pictures.images.unfold(1, side, 1).unfold(2, side, 1)  # every window of every image, and no copy
    pixels = windows[rows, top, left]
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
    # in two layouts the subtraction would take several times as long
    mean = pictures.mean[None].contiguous(memory_format=torch.channels_last)
    return (pixels - mean).mul_(1 / pictures.divisor)


def same_view(pictures: Pictures, rows: Tensor, view=VIEWS["1 view"][0]) -> tuple[Tensor, Tensor, Tensor]:
    """One view for all of `rows`; the centre unless given."""
    top, left = (torch.full_like(rows, int(part * pictures.border)) for part in view[:2])
    return top, left, torch.full_like(rows, view[2], dtype=torch.bool)


def batches(pictures: Pictures, batch_size: int, seed: int, epoch: int, augmentation: bool = True) -> Iterator:
    """The batches of an epoch in random order: inputs (B, 3, crop, crop) and labels (B,), on the device.

    augmentation: random crops and reflections (§4.1), one for each image; else the centre.
    """
    device, count = pictures.labels.device, len(pictures.labels)
    generator = np.random.default_rng([seed, epoch])
    order = torch.from_numpy(generator.permutation(count)).to(device)
    drawn = draw_views(generator, count, (pictures.border, pictures.border))
    views = [torch.from_numpy(part).to(device) for part in (drawn.top, drawn.left, drawn.mirrored)]
    if not augmentation:
        views = same_view(pictures, order)
    for rows in order.split(batch_size):
        yield cut(pictures, rows, tuple(part[rows] for part in views)), pictures.labels[rows]


@torch.no_grad()
def evaluate(net: nn.Module, pictures: Pictures, views: str = "1 view") -> dict[str, float]:
    """Loss, top-1 and top-5 error of a net; the probabilities of an image's classes are averaged over its views.

    Raises:
        ValueError: unknown views, labels that are no classes, or a net whose answers are not numbers.
    """
    if views not in VIEWS:
        raise ValueError(f"views = {views!r}; accepted are {', '.join(VIEWS)}")
    probabilities = []
    with in_evaluation(net):
        for rows in torch.arange(len(pictures.labels), device=pictures.labels.device).split(EVALUATED_AT_ONCE):
            seen = (cut(pictures, rows, same_view(pictures, rows, view)) for view in VIEWS[views])
            probabilities.append(sum(net(x).softmax(1) for x in seen) / len(VIEWS[views]))
    scores, labels = torch.cat(probabilities).cpu(), pictures.labels.cpu()
    errors = top_k_error(scores, labels)
    loss = -scores.gather(1, labels.long()[:, None]).double().clamp(min=1e-30).log().mean().item()
    return {"loss": loss, "top1": errors[1], "top5": errors[5]}
