"""The batches of a run: random crops, reflections and colours of a store's images (§4.1), made as they are needed.

What an image looks like in an epoch is drawn for the whole epoch at once, by (seed, epoch): it does not depend on
the size of the batches, on which batch comes first after an interruption, or on the thread that makes it.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .augmentation import add_colour_noise, centre_views, colour_shifts, cut_views, draw_views
from .data.reading import THREADS, whole_pictures
from .data.store_files import RAW
from .dataset import Store
from .distortions import cut_areas, distort, draw_areas, draw_distortions
from .evaluation import input_at_once, onto, to_input
from .runs.fast import cuts_at_once
from .runs.job import ALONE, Job

AT_ONCE = 1024  # pictures on their way to a device


def batches(
    run, store: Store, mean: Tensor, epoch: int, first_step: int = 0, job: Job = ALONE
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch from a step on: inputs (B, 3, crop, crop) and labels (B,), on the run's device.

    Of a job, each replica makes its own share of every batch, and each column of it cuts a part.

    A GPU cuts them itself from whole pictures, which threads read ahead, or which it keeps. What it cannot do is made
    by another thread, while the batches before are used; on a CPU both would want the same cores.
    """
    if run.device.startswith("cuda") and not _distorted(run):
        return make_batches(run, store, mean, epoch, first_step, job, threads=THREADS)
    made = make_batches(run, store, mean, epoch, first_step, job)
    # columns exchange their parts, which a second thread might do in another order than the first of the other column
    in_time = run.device == "cpu" or job.columns > 1
    return made if in_time or isinstance(store.images, Tensor) else ahead(made)


def make_batches(
    run, store: Store, mean: Tensor, epoch: int, first_step: int = 0, job: Job = ALONE, threads: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """`batches`, each made when it is asked for; from whole pictures if so many threads are to read them ahead."""
    named, generator = run.named, np.random.default_rng([run.seed, epoch])
    order = generator.permutation(len(store))
    border = store.size - run.image_size
    views = draw_views(generator, math.ceil(len(store) / named.views_shared_by), (border, border), named.crop_offsets)
    if named.views_shared_by > 1:
        views = views[np.argsort(order) // named.views_shared_by]  # where in the order each image stands
    if not run.cropped:
        views = centre_views(len(store), (border, border))
    if distorted := _distorted(run):
        areas = draw_areas(generator, len(store), (store.size, store.size))
        changes = draw_distortions(generator, len(store))
    std = named.noise_std if run.coloured and epoch / run.epochs < named.noise_until else 0.0
    shifts = colour_shifts(store.pca, generator.standard_normal((len(store), 3)), std, named.noise_units)
    mean = mean.to(run.device)
    starts = range(first_step * run.batch_size, len(store), run.batch_size)
    shares = [batch[job.share(len(batch))] for batch in (order[s : s + run.batch_size] for s in starts)]
    own = [rows[job.own_part(len(rows))] for rows in shares]
    pictures = ((store.images, rows) for rows in own)
    if threads and not isinstance(store.images, Tensor):
        read = whole_pictures(store.images, own, run.device, store.folder / RAW, threads)
        pictures = ((pixels, np.arange(len(pixels))) for pixels in read)
    for rows, mine, (images, places) in zip(shares, own, pictures, strict=True):
        labels = onto(torch.from_numpy(store.labels[rows]), run.device)
        noise = 1 + std if named.noise_units == "code2012" else 1.0
        colours = torch.from_numpy(shifts[rows]), noise, run.input_divisor
        if distorted:
            cut, seen = (cut_areas, areas) if run.cropped else (cut_views, views)
            crops = cut(images, seen[mine], run.image_size, places)
            crops = torch.from_numpy(distort(crops, changes[mine]) if run.coloured else crops)
        elif isinstance(images, Tensor) and job.columns == 1 and cuts_at_once(images.device):
            yield input_at_once(images, places, views[mine], mean, *colours), labels
            continue
        else:
            crops = cut_views(images, views[mine], run.image_size, places)
        crops = job.every_part(onto(torch.as_tensor(crops), run.device), len(rows))
        if cuts_at_once(crops.device):
            whole = centre_views(len(rows), (0, 0))
            yield input_at_once(crops, range(len(rows)), whole, mean, *colours), labels
            continue
        finish = partial(_finish, run, store.pca, std, colours[0])
        yield to_input(crops, mean, run.device, finish if std or run.input_divisor != 1 else None), labels


def _distorted(run) -> bool:
    return run.named.distorted and (run.cropped or run.coloured)


def _finish(run, pca, std: float, shifts: Tensor, pixels: Tensor, part: slice) -> None:
    """The colours of some images, and their scale."""
    if std:
        shifts = onto(shifts[part], pixels.device)
        add_colour_noise(pixels, pca, std, run.named.noise_units, shifts=shifts, in_place=True)
    if run.input_divisor != 1:
        pixels.div_(run.input_divisor)


def in_memory(stores: dict[str, Store], device: str) -> dict[str, Store]:
    """The same splits with their images in the memory of a device: an array, or a tensor that a GPU cuts by itself."""
    if device == "cpu":
        return {split: dataclasses.replace(store, images=np.array(store.images)) for split, store in stores.items()}
    kept = {}
    for split, store in stores.items():
        images = torch.empty(store.images.shape, dtype=torch.uint8, device=device)
        parts = np.array_split(np.arange(len(store)), math.ceil(len(store) / AT_ONCE))
        read = whole_pictures(store.images, parts, device, store.folder / RAW)
        for part, pixels in zip(parts, read, strict=True):
            images[part[0] : part[-1] + 1] = pixels
        kept[split] = dataclasses.replace(store, images=images)
    return kept


def fits_on(device: str, stores: dict[str, Store]) -> bool:
    """Whether a GPU has room for all pictures beside a net: they take less than half of what is free."""
    if not device.startswith("cuda"):
        return False
    return 2 * sum(math.prod(store.images.shape) for store in stores.values()) < torch.cuda.mem_get_info(device)[0]


def ahead(items: Iterator, count: int = 2) -> Iterator:
    """The same items, made by another thread, up to `count` of them before they are asked for.

    An error of that thread is raised here; when the items are left early, it ends after the one that it is making.
    """
    with ThreadPoolExecutor(1) as worker:
        upcoming = deque(worker.submit(next, items, None) for _ in range(count))
        try:
            while (item := upcoming.popleft().result()) is not None:
                upcoming.append(worker.submit(next, items, None))
                yield item
        finally:
            worker.shutdown(cancel_futures=True)
