"""The batches of a run: random crops, reflections and colours of a store's images (§4.1), made as they are needed.

What an image looks like in an epoch is drawn for the whole epoch at once, by (seed, epoch): it does not depend on
the size of the batches, on which batch comes first after an interruption, or on the thread that makes it.
"""

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .augmentation import centre_views, colour_shifts, cut_views, draw_views, noise_divisor
from .dataset import Store
from .distortions import cut_areas, distort, draw_areas, draw_distortions
from .evaluation import onto, to_input
from .learning import recipe
from .runs.launch import ALONE, Job


def batches(
    run, store: Store, mean: Tensor, epoch: int, first_step: int = 0, job: Job = ALONE
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch from a step on: inputs (B, 3, crop, crop) and labels (B,), on the run's device.

    Of a job, each replica reads and makes its own share of every batch.

    For a GPU they are made ahead, while those before them are used; on a CPU both would want the same cores.
    """
    made = make_batches(run, store, mean, epoch, first_step, job)
    return made if run.device == "cpu" else ahead(made)


def make_batches(
    run, store: Store, mean: Tensor, epoch: int, first_step: int = 0, job: Job = ALONE
) -> Iterator[tuple[Tensor, Tensor]]:
    """`batches`, each made when it is asked for."""
    named, generator = recipe(run.recipe), np.random.default_rng([run.seed, epoch])
    order = generator.permutation(len(store))
    border = store.size - run.image_size
    drawn = math.ceil(len(store) / named.views_shared_by)
    views = draw_views(generator, drawn, (border, border), named.crop_offsets)
    if named.views_shared_by > 1:
        views = views[_positions(order) // named.views_shared_by]
    cropped, coloured = run.augmentation in ("all", "crops"), run.augmentation in ("all", "colours")
    if not cropped:
        views = centre_views(len(store), (border, border))
    distorted = named.distorted and cropped
    if distorted:
        views, changes = (
            draw_areas(generator, len(store), (store.size, store.size)),
            draw_distortions(generator, len(store)),
        )
    normals = generator.standard_normal((len(store), 3))
    noise = named.noise_std if epoch / run.epochs < named.noise_until else 0.0
    shifts = torch.from_numpy(colour_shifts(store.pca, normals, noise, named.noise_units))
    divisor, mean = noise_divisor(noise, named.noise_units), mean.to(run.device)
    for start in range(first_step * run.batch_size, len(store), run.batch_size):
        batch = order[start : start + run.batch_size]
        rows = batch[job.share(len(batch))]
        crops = (cut_areas if distorted else cut_views)(store.images, views[rows], run.image_size, rows)
        if distorted and coloured:
            crops = distort(crops, changes[rows])
        x = to_input(crops, mean, run.device, shifts[rows] if coloured and noise else None, divisor)
        yield x, onto(torch.from_numpy(store.labels[rows]), run.device)


def _positions(order: np.ndarray) -> np.ndarray:
    """Where in the order each image stands."""
    positions = np.empty_like(order)
    positions[order] = np.arange(len(order))
    return positions


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
