"""§6, results: error rates as they were counted in 2012, from one view of each image or ten."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import keep_memory
from .augmentation import VIEWS, Views, centre_crops, every_view, views_of
from .data.reading import whole_pictures
from .data.store_files import RAW
from .distortions import many_views
from .runs import stopping
from .runs.fast import cuts_at_once
from .runs.job import ALONE, Job

AVERAGES = ("probabilities", "logits")
IN_CACHE = 16  # images of 224 × 224 that stay in the cache, as float numbers, from one pass over them to the next


class NotNumbers(ValueError, ArithmeticError):
    """Scores hold NaN, which has no rank."""


def rank_credit(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """How far each label is among the k highest scores: (N,) from 0 to 1.

    A label that ties with others for the last places gets the fraction of the places that are left for them, as in
    the 2012 program (src/layer_kernels.cu), so that a net that says nothing scores as chance does. Nothing is checked:
    a training step must not wait for the device.
    """
    of_label = scores.gather(1, labels[:, None])
    above = (scores > of_label).sum(1)
    level = (scores == of_label).sum(1).clamp(min=1)
    return ((k - above) / level).clamp(0, 1)


def as_labels(scores: Tensor, labels: Tensor) -> Tensor:
    """Labels (N,) as int64; ValueError where they and the scores (N, classes) can't be ranked."""
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
        ks: whole numbers above 0; more than there are classes count as all of them.

    Raises:
        ValueError: shapes that do not belong together, labels that are no classes, scores that are not numbers, or
            other ks.
    """
    ks = tuple(ks)
    if wrong := [k for k in ks if not isinstance(k, Integral) or k < 1]:
        raise ValueError(f"ks hold {wrong[0]!r}; accepted are whole numbers above 0")
    # arrays are copied: torch warns of those that cannot be written to, such as pandas gives
    scores, labels = (x if isinstance(x, Tensor) else torch.from_numpy(np.array(x)) for x in (scores, labels))
    if not len(scores):
        raise ValueError(f"scores {tuple(scores.shape)}; an error rate wants images")
    labels = as_labels(scores, labels)
    # on the CPU before float64, which not every device has
    return {k: 1 - rank_credit(scores, labels, k).cpu().double().mean().item() for k in ks}


def to_input(crops_nhwc, mean: Tensor, device="cpu", finish: Callable[[Tensor, slice], object] | None = None) -> Tensor:
    """Crops less the mean (3, H, W): uint8 (N, H, W, 3) to float32 (N, 3, H, W), channels last in memory.

    finish: is called with some images at a time, (n, H, W, 3), and which they are, to change them in place.
    """
    pixels = onto(crops_nhwc if isinstance(crops_nhwc, Tensor) else torch.from_numpy(crops_nhwc), device)
    mean = mean.permute(1, 2, 0).contiguous().to(device)
    x = torch.empty(pixels.shape, device=device)
    piece = IN_CACHE if x.device.type == "cpu" else max(len(x), 1)
    for start in range(0, len(x), piece):
        part = slice(start, start + piece)
        x[part].copy_(pixels[part]).sub_(mean)
        if finish is not None:
            finish(x[part], part)
    return x.permute(0, 3, 1, 2)


def input_at_once(images: Tensor, rows, views: Views, mean: Tensor, shifts=None, noise=1.0, divisor=1.0) -> Tensor:
    """What `to_input` makes of views of images (N, S, S, 3) on a GPU, colours and scale included, in one pass.

    Where `cuts_at_once`; the bits are those that a CPU makes.

    Args:
        rows: the image of each view.
        shifts: (V, 3), what `augmentation.colour_shifts` gives. noise: what the noise divides by.
        divisor: what the pixels are divided by in the end.
    """
    from .runs.kernels import cut

    places = np.stack([np.asarray(part, np.int64) for part in (rows, views.top, views.left, views.mirrored)])
    given = torch.from_numpy(places), mean, torch.zeros(len(rows), 3) if shifts is None else shifts
    return cut(images, *(onto(part, images.device) for part in given), noise, divisor)


def onto(x: Tensor, device) -> Tensor:
    """A tensor on a device. A copy from the CPU to a GPU goes through pinned memory and waits for nothing there."""
    if x.device.type == "cpu" and torch.device(device).type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def mean_of(store, crop: int) -> Tensor:
    """The centre of a store's mean image, (3, crop, crop) float32: what is taken off every crop, wherever it lies."""
    return torch.from_numpy(centre_crops(store.mean[None], crop)[0].copy()).permute(2, 0, 1)


def mean_of_views(logits: Tensor, average: str = "probabilities") -> Tensor:
    """The probabilities of the classes, (N, C), from the logits of the views, (N, views, C); as in `predict`.

    The mean of the logits gives the geometric mean of the probabilities, but for a factor that makes their sum 1.

    Raises:
        ValueError: an unknown `average`.
    """
    if average not in AVERAGES:
        raise ValueError(f"average = {average!r}; accepted are {', '.join(AVERAGES)}")
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


def predict(
    net: nn.Module,
    images,
    mean: Tensor,
    views: int = 1,
    batch_size: int = 128,
    average: str = "probabilities",
    divisor: float = 1.0,
) -> Tensor:
    """The probabilities of each image's classes, (N, classes) float32 on the CPU, averaged over its views (§4.1).

    Of no images they are (0, classes).

    Args:
        images: uint8 (N, S, S, 3); crops of the mean's size are cut from them.
        mean: (3, crop, crop), what `mean_of` gives for the training store.
        views: 1, the centre, 9 or 10, as in `augmentation.VIEWS`, or 144, `distortions.many_views`.
        average: of the "probabilities" of the views, as in 2012, or of their "logits", before the softmax.
        divisor: what the pixels are divided by, once the mean is taken off.

    Raises:
        ValueError: unknown views or average, or a net whose answers are not numbers.
    """
    return answers(net, images, mean, (views,), batch_size, average, divisor)[views]


@torch.no_grad()
def answers(
    net: nn.Module,
    images,
    mean: Tensor,
    views: tuple[int, ...],
    batch_size: int = 128,
    average: str = "probabilities",
    divisor: float = 1.0,
    bf16: bool = False,
    path: Path | None = None,
    look: Callable[[int], object] = lambda done: None,
) -> dict[int, Tensor]:
    """`predict` for several numbers of views, from one reading of the images; for a GPU they are read ahead.

    bf16: compute in bfloat16, where torch's autocast does. path: the file that holds the images, if one does.
    look: is called between batches with the number of images that are done.
    """
    for count in views:
        if count not in (*VIEWS, 144):
            raise ValueError(f"views = {count}; accepted are {', '.join(map(str, VIEWS))} and 144")
    if average not in AVERAGES:
        raise ValueError(f"average = {average!r}; accepted are {', '.join(AVERAGES)}")
    keep_memory()
    device = next(net.parameters()).device
    at_once = {count: max(1, batch_size // count) for count in views}
    found: dict[int, list[Tensor]] = {count: [] for count in views}
    with in_evaluation(net), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        together = math.lcm(*at_once.values())
        for number, pictures in enumerate(_read(images, together, device, views, path)):
            look(number * together)
            for count, size in at_once.items():
                for start in range(0, len(pictures), size):
                    batch = pictures[start : start + size]
                    logits = net(input_of(batch, mean, count, device, divisor)).float()
                    found[count].append(mean_of_views(logits.unflatten(0, (len(batch), count)), average))
        classes = 0 if len(images) else net(mean[None].to(device)).shape[1]  # only an answer says how many
    whole = {count: torch.cat(parts).cpu() if parts else torch.empty(0, classes) for count, parts in found.items()}
    if any(probabilities.isnan().any() for probabilities in whole.values()):
        raise NotNumbers("the net's answers hold NaN: its weights have grown beyond all numbers")
    return whole


def _read(images, size: int, device: torch.device, views: tuple[int, ...], path: Path | None) -> Iterator:
    """`size` of the images at a time: on a GPU, unless views are wanted that only a CPU makes."""
    parts = [range(len(images))[start : start + size] for start in range(0, len(images), size)]
    if device.type != "cuda" or isinstance(images, Tensor) or 144 in views:
        return (images[part.start : part.stop] for part in parts)
    return whole_pictures(images, map(np.asarray, parts), str(device), path)


def input_of(images, mean: Tensor, views: int, device: torch.device | str, divisor: float) -> Tensor:
    """The input of a net from this many views of each image, (N · views, 3, crop, crop)."""
    crop = mean.shape[1]
    if isinstance(images, Tensor) and views in VIEWS and cuts_at_once(images.device):
        borders = images.shape[1] - crop, images.shape[2] - crop
        return input_at_once(images, *every_view(len(images), borders, VIEWS[views]), mean, divisor=divisor)
    crops = crops_of(images, crop, views)
    finish = None if divisor == 1 else lambda pixels, _: pixels.div_(divisor)
    return to_input(crops.reshape(-1, crop, crop, 3), mean, device, finish)


def crops_of(images, crop: int, views: int):
    """The views of images, (N, views, crop, crop, 3) uint8; `predict` says which numbers of views there are."""
    if views == 144:
        return np.stack([many_views(image, crop) for image in np.asarray(images)])
    return views_of(images, crop, VIEWS[views])


def evaluate(net: nn.Module, store, mean: Tensor, views: int = 1, job: Job = ALONE) -> dict[str, float]:
    """Loss (the mean negative log-probability), top-1 and top-5 error of a net on a store; a job shares the images.

    A probability below 1e-30 counts as 1e-30, so no image's loss is above 69.1. Errors are counted on probabilities, as
    in 2012: those that float32 rounds to zero are ties, which `rank_credit` shares.
    """
    return evaluate_views(net, store, mean, (views,), job)[views]


def evaluate_views(
    net: nn.Module, store, mean: Tensor, views: tuple[int, ...], job: Job = ALONE, bf16: bool = False
) -> dict[int, dict[str, float]]:
    """`evaluate` for several numbers of views, in bfloat16 if asked; the images are read once.

    Raises:
        Stopped: a signal has come.
    """
    rows, found = job.share(len(store)), {}
    path = getattr(store, "folder", None) and store.folder / RAW

    def look(done: int) -> None:
        """All processes of a job agree; some have one image more than others, after which nobody looks."""
        if done < len(store) // job.replicas and (reason := job.as_leader_says(stopping.asked[:1])):
            raise stopping.Stopped(f"stopped by {reason[0]}")

    for count, probabilities in answers(net, store.images[rows], mean, views, bf16=bf16, path=path, look=look).items():
        labels = as_labels(probabilities, torch.from_numpy(np.array(store.labels[rows])))
        loss = -probabilities.gather(1, labels[:, None]).double().clamp(min=1e-30).log().sum()
        wrong = [(1 - rank_credit(probabilities, labels, k)).double().sum() for k in (1, 5)]
        sums = job.sum(torch.stack([loss, *wrong])).tolist()  # on the CPU: float64, which not every device has
        loss, top1, top5 = (total / len(store) for total in sums)
        found[count] = {"loss": loss, "top1": top1, "top5": top5}
    return found
