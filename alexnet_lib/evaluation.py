"""§6, results: error rates as they were counted in 2012, from one view of each image or ten."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from . import keep_memory
from .augmentation import centre_crops, ten_views
from .distortions import many_views
from .runs.launch import ALONE, Job

AVERAGES = ("probabilities", "logits")
IN_CACHE = 16  # images of 224 × 224 that stay in the cache, as float numbers, from one pass over them to the next


class NotNumbers(ValueError, ArithmeticError):
    """Scores hold NaN, which has no rank."""


def rank_credit(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """`top_k_credit` unchecked: a training step must not wait for the device, and its loss is looked at later."""
    of_label = scores.gather(1, labels[:, None])
    above = (scores > of_label).sum(1)
    level = (scores == of_label).sum(1).clamp(min=1)
    return ((k - above) / level).clamp(0, 1)


def top_k_credit(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """How far each label is among the k highest scores: (N,) from 0 to 1.

    A label that ties with others for the last places gets the fraction of the places that are left for them, as in
    the 2012 program (src/layer_kernels.cu), so that a net that says nothing scores as chance does.

    Raises:
        ValueError: as `top_k_error`.
    """
    return rank_credit(scores, as_labels(scores, labels), k)


def as_labels(scores: Tensor, labels: Tensor) -> Tensor:
    """Labels (N,) as int64, after a look at whether they and the scores (N, classes) can be ranked.

    Raises:
        ValueError: shapes that do not belong together, labels that are no classes, scores that hold NaN.
    """
    if scores.dim() != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)}; wants (N, C) and (N,)")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype}; accepted are whole numbers")
    labels, classes = labels.long(), scores.shape[1]
    if (wrong := (labels < 0) | (labels >= classes)).any():
        raise ValueError(f"labels hold {labels[wrong][0].item()}; accepted are the classes 0 to {classes - 1}")
    if scores.isnan().any():
        raise NotNumbers("scores hold NaN, which has no rank: the net's weights have grown beyond all numbers")
    return labels


def top_k_error(scores, labels, ks=(1, 5)) -> dict[int, float]:
    """The share of images whose label is not among the k highest scores, for each k (§2).

    Args:
        scores: (N, classes), logits or probabilities; a tensor or array.
        labels: (N,) whole numbers from 0 to classes - 1.

    Raises:
        ValueError: shapes that do not belong together, labels that are no classes, or scores that are not numbers.
    """
    # arrays are copied: torch warns of those that cannot be written to, such as pandas gives
    scores, labels = (x if isinstance(x, Tensor) else torch.from_numpy(np.array(x)) for x in (scores, labels))
    if not len(scores):
        raise ValueError(f"scores {tuple(scores.shape)}; an error rate wants images")
    labels = as_labels(scores, labels)
    # on the CPU before float64, which not every device has
    return {k: 1 - rank_credit(scores, labels, k).cpu().double().mean().item() for k in ks}


def to_input(crops_nhwc: np.ndarray, mean: Tensor, device="cpu", shifts: Tensor | None = None, divisor=1.0) -> Tensor:
    """uint8 (N, H, W, 3) to what a net takes: float32 (N, 3, H, W) less the mean (3, H, W), channels last in memory.

    With `shifts` (N, 3), a colour is added to every pixel of each image, and then the images are divided (§4.1).
    """
    pixels = onto(torch.from_numpy(crops_nhwc), device)
    mean = mean.permute(1, 2, 0).contiguous().to(device)
    x = torch.empty(pixels.shape, device=device)
    # colours as rows of W·3 numbers, which are added many times faster than triples
    colours = None if shifts is None else onto(shifts, device).repeat(1, x.shape[2])[:, None]
    piece = IN_CACHE if x.device.type == "cpu" else max(len(x), 1)
    for start in range(0, len(x), piece):
        images = x[start : start + piece]
        images.copy_(pixels[start : start + piece]).sub_(mean)
        if colours is not None:
            images.view(len(images), x.shape[1], -1).add_(colours[start : start + piece]).div_(divisor)
    return x.permute(0, 3, 1, 2)


def onto(x: Tensor, device) -> Tensor:
    """A tensor of the CPU on a device. A copy to a GPU goes through pinned memory and waits for nothing there."""
    return x.pin_memory().to(device, non_blocking=True) if torch.device(device).type == "cuda" else x.to(device)


def mean_of(store, crop: int) -> Tensor:
    """The centre of a store's mean image, (3, crop, crop) float32: what is taken off every crop, wherever it lies."""
    return torch.from_numpy(centre_crops(store.mean[None], crop)[0].copy()).permute(2, 0, 1)


def mean_of_views(logits: Tensor, average: str = "probabilities") -> Tensor:
    """The probabilities of the classes, (N, C), from the logits of the views, (N, views, C); as in `predict`.

    The mean of the logits gives the geometric mean of the probabilities, but for a factor that makes their sum 1.
    """
    return logits.mean(1).softmax(1) if average == "logits" else logits.softmax(2).mean(1)


@contextmanager
def in_evaluation(net: nn.Module) -> Iterator[nn.Module]:
    """A net in evaluation mode; afterwards each of its layers is in the mode that it was in."""
    modes = [(layer, layer.training) for layer in net.modules()]
    net.eval()
    try:
        yield net
    finally:
        for layer, training in modes:
            layer.training = training


@torch.no_grad()
def predict(
    net: nn.Module, images, mean: Tensor, views: int = 1, batch_size: int = 128, average: str = "probabilities"
) -> Tensor:
    """The probabilities of each image's classes, (N, classes) float32 on the CPU, averaged over its views (§4.1).

    In float32, whatever precision the net was trained in.

    Args:
        images: uint8 (N, S, S, 3); crops of the mean's size are cut from them.
        mean: (3, crop, crop), what `mean_of` gives for the training store.
        views: 1, the centre, 10, the corners and centre and their reflections, or 144, `distortions.many_views`.
        average: of the "probabilities" of the views, as in 2012, or of their "logits", before the softmax.

    Raises:
        ValueError: unknown views or average, or a net whose answers are not numbers.
    """
    if views not in (1, 10, 144):
        raise ValueError(f"views = {views}; accepted are 1, 10 and 144")
    if average not in AVERAGES:
        raise ValueError(f"average = {average!r}; accepted are {', '.join(AVERAGES)}")
    keep_memory()
    device, crop, batch_size = next(net.parameters()).device, mean.shape[1], max(1, batch_size // views)
    probabilities = []
    with in_evaluation(net):
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            crops = views_of(batch, crop, views)
            x = to_input(np.ascontiguousarray(crops).reshape(-1, crop, crop, 3), mean, device)
            probabilities.append(mean_of_views(net(x).unflatten(0, (len(batch), views)), average).cpu())
    probabilities = torch.cat(probabilities) if probabilities else torch.empty(0, 1)
    if probabilities.isnan().any():
        raise NotNumbers("the net's answers hold NaN: its weights have grown beyond all numbers")
    return probabilities


def views_of(images, crop: int, views: int) -> np.ndarray:
    """One view of each image, ten or 144: uint8 (N, S, S, 3) to (N, views, crop, crop, 3)."""
    if views == 144:
        return np.stack([many_views(image, crop) for image in np.asarray(images)])
    return ten_views(images, crop) if views == 10 else centre_crops(images, crop)[:, None]


def evaluate(net: nn.Module, store, mean: Tensor, views: int = 1, job: Job = ALONE) -> dict[str, float]:
    """Loss (the mean negative log-probability), top-1 and top-5 error of a net on a store; a job shares the images."""
    rows = job.share(len(store))
    probabilities = predict(net, store.images[rows], mean, views)
    labels = as_labels(probabilities, torch.from_numpy(np.array(store.labels[rows])))
    loss = -probabilities.gather(1, labels[:, None]).double().clamp(min=1e-30).log().sum()
    wrong = [(1 - rank_credit(probabilities, labels, k)).double().sum() for k in (1, 5)]
    sums = job.sum(torch.stack([loss, *wrong])).tolist()  # on the CPU: float64, which not every device has
    return {name: total / len(store) for name, total in zip(("loss", "top1", "top5"), sums, strict=True)}
