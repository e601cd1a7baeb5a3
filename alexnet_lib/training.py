"""§5, training: the loop, what it writes down, and how it goes on after it was cut off.

What is random (the order of the images, their crops, reflections and colours, the silent units) is a function of
(seed, epoch, image) or (seed, epoch, step), never of a generator's history. So the state of a run is its weights, its
velocities and where it is; a run that is killed at any moment and started again ends with the same bits.

    python -m alexnet_lib.training CONFIG.json
"""

import argparse
import dataclasses
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import keep_memory, launch
from .dataset import Store, load_dataset
from .evaluation import evaluate, mean_of, top_k_credit
from .inception import HEAD_WEIGHT, each_output
from .launch import Job, JobFailed, inside_job
from .learning import (
    four_per_cent_less,
    rate_factor,
    recipe,
    set_rates,
)
from .loader import batches
from .progress import PIPE, progress_bar, progress_style, tell
from .records import Record, load_checkpoint, provenance, write_json, write_table
from .run_state import STALL_WINDOW, RunState, build_net
from .settings import TrainSettings, check, net_skeleton, resolve

CHECK_EVERY = 10  # steps between looks at the losses, each of which waits for the device
CHECKPOINT_SECONDS = 600
STALL_STEPS = 500  # by then a net that learns has left the start
STALL_MARGIN = 0.02


class StallWarning(UserWarning):
    """The loss sits at ln(classes), that of a net that knows nothing."""


class NonFiniteLoss(ArithmeticError):
    """The loss is not a number any more."""


def train(settings: TrainSettings, on_epoch: Callable[[pd.DataFrame], None] | None = None) -> Record:
    """Train a net, from where an earlier call with the same settings left off, and return its record.

    With several devices the work is done by as many processes; a process that was started for such a job does its part
    of it. Started from a notebook they outlive its kernel. Where another process is training this run, it is followed
    to its end.

    Args:
        settings: what to train; "auto" values are chosen to suit the data set.
        on_epoch: called after every epoch with the history so far.

    Raises:
        ValueError: settings that do not belong together.
        NonFiniteLoss: names the step and the last good checkpoint.
        JobFailed: a process of several ended before its work was done; says which, and its last lines.
    """
    keep_memory()
    launch.wait_until_prepared(settings.dataset)
    stores = load_dataset(settings.dataset)
    run = resolve(settings, stores["train"])
    if not inside_job():
        if launch.in_work(run.folder):
            return launch.follow(run, on_epoch)
        if run.devices > 1 or run.speed == "fast" and not launch.has_allocator():
            return launch.train_on_devices(run, on_epoch, StallWarning)
    with launch.join(run.columns, run.device) as job:
        run = dataclasses.replace(run, device=job.device)
        try:
            if not job.as_leader_says((run.folder / "summary.json").is_file()):
                _train_here(run, stores, job, on_epoch)
        except launch.AtWork:  # two began at once
            return launch.follow(run, on_epoch)
        return Record.open(run.folder) if job.leader else None


def _train_here(run: TrainSettings, stores: dict[str, Store], job: Job, on_epoch) -> None:
    """This process's part of a run."""
    torch.backends.cudnn.benchmark = run.speed == "fast"
    try:
        with (
            launch.at_work(run.folder, job),
            torch.random.fork_rng([run.device] if run.device.startswith("cuda") else []),
        ):
            if job.as_leader_says((run.folder / "summary.json").is_file()):
                return  # finished since we looked
            if job.leader:
                write_json(run.folder / "config.json", dataclasses.asdict(run))
            state = RunState(run, len(stores["train"].classes), job)
            _train_epochs(run, stores, state, on_epoch)
            _write_summary(run, stores, state)
    except RuntimeError as error:
        if job.mesh is None:
            raise
        raise JobFailed(
            f"{error}\nAnother process of the job has ended, or this one failed. The last checkpoint is in "
            f"{run.folder}; the same command goes on from it"
        ) from error


def load_net(record: Record) -> nn.Module:
    """The trained net of a finished run, on the CPU, in evaluation mode."""
    state = load_checkpoint(record.folder)
    if state is None:
        raise FileNotFoundError(f"no checkpoint in {record.folder}")
    run = check(TrainSettings, record.config | {"device": "cpu", "speed": "repeatable"})
    net = build_net(run, record.summary["classes"])
    net.load_state_dict(state.get("averaged", state["net"]))
    return net.eval()


# ----------------------------------------------------------------------------------------------------- the loop


def _train_epochs(run, stores, state: RunState, on_epoch) -> None:
    """Epochs until the schedule ends; after each the validation error, the records and a checkpoint."""
    mean = mean_of(stores["train"], run.image_size)
    steps = math.ceil(len(stores["train"]) / run.batch_size)
    job, done = state.job, state.epoch * steps + state.step
    with progress_bar(run.epochs * steps, "training", "step", job.leader, initial=done) as bar:
        while state.epoch < run.epochs and not state.stopped:
            began, first_step = time.perf_counter(), state.step
            waited = _train_epoch(run, stores["train"], mean, state, bar)
            seconds = time.perf_counter() - began
            images = len(stores["train"]) - first_step * run.batch_size
            errors = evaluate(state.answering, stores["val"], mean, job=job)
            state.end_epoch(len(stores["train"]), errors)
            state.timing.append(
                {"epoch": state.epoch, "seconds": seconds, "images_per_second": images / seconds}
                | {"waiting_for_data": waited / seconds}
            )
            if job.leader:
                write_table(run.folder / "timing.csv", state.timing)
                write_table(run.folder / "history.csv", state.history)
            state.save(run.folder)
            bar.set_postfix_str(_status(state), refresh=False)
            if on_epoch is not None and job.leader:
                on_epoch(pd.DataFrame(state.history))


def _train_epoch(run, store: Store, mean: Tensor, state: RunState, bar) -> float:
    """The rest of an epoch from state.step on; returns the seconds spent waiting for data."""
    named, pending, waited, saved = recipe(run.recipe), [], 0.0, time.perf_counter()
    steps = math.ceil(len(store) / run.batch_size)
    data = batches(run, store, mean, state.epoch, state.step, state.job)
    state.net.train()
    while state.step < steps:
        asked = time.perf_counter()
        x, labels = next(data)
        waited += time.perf_counter() - asked
        _set_rates(run, named, state, steps)
        state.job.batch = min(run.batch_size, len(store) - state.step * run.batch_size)
        pending.append(_step(run, state, x, labels))
        state.step += 1
        if named.average_last and state.epoch + state.step / steps > run.epochs * (1 - named.average_last):
            state.average.update_parameters(state.net)
        bar.update(1)
        if state.step % CHECK_EVERY == 0 or state.step == steps:
            _count(run, state, pending)
            pending = []
            if state.job.leader:
                _warn_of_stall(state, state.epoch * steps + state.step, len(store.classes))
            if state.job.as_leader_says(time.perf_counter() - saved > CHECKPOINT_SECONDS):
                state.save(run.folder)
                saved = time.perf_counter()
    return waited


def _step(run, state: RunState, x: Tensor, labels: Tensor) -> Tensor:
    """One update (§5); returns its sums of loss, top-1 and top-5 credit, and their number, still on the device."""
    _generator(x.device).manual_seed(_number(run.seed, state.epoch, state.step))  # of the dropout masks
    with torch.autocast(x.device.type, torch.bfloat16, enabled=run.precision == "bf16"):
        logits, *auxiliary = each_output(state.forward(x))
    logits = logits.float()
    total, job = F.cross_entropy(logits, labels, reduction="sum"), state.job
    extra = [HEAD_WEIGHT * F.cross_entropy(other.float(), labels, reduction="sum") for other in auxiliary]
    state.optimizer.zero_grad()
    (sum(extra, total) * (job.replicas / job.batch)).backward()  # the replicas' gradients are averaged
    state.optimizer.step()
    with torch.no_grad():
        credit = [top_k_credit(logits, labels, k).sum() for k in (1, 5)]
        return torch.stack([total.detach(), *credit, total.new_tensor(len(labels))])


def _generator(device: torch.device) -> torch.Generator:
    """A device's default generator; torch.manual_seed would seed every device's, at the price of a training step."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index]
    return torch.mps._get_default_mps_generator() if device.type == "mps" else torch.default_generator


def _number(*parts: int) -> int:
    """A seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def _set_rates(run, named, state: RunState, steps: int) -> None:
    """Give each group of parameters the rate of the next step."""
    done = (state.epoch + state.step / steps) / run.epochs
    if named.schedule == "plateau":
        rate = state.rule.rate
    elif named.schedule == "four_per_cent":
        rate = run.learning_rate * four_per_cent_less(state.epoch)
    else:
        rate = run.learning_rate * rate_factor(named, done)
    set_rates(state.optimizer, named, rate, done)


def _count(run, state: RunState, pending: list[Tensor]) -> None:
    """Add what the last steps measured to the epoch's sums.

    Raises:
        NonFiniteLoss: before anything of these steps is saved.
    """
    rows = state.job.sum(torch.stack(pending)).cpu().double()
    losses = (rows[:, 0] / rows[:, 3]).tolist()
    for i, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"the loss is {loss} at step {state.step - len(losses) + i + 1} of epoch {state.epoch + 1}; a lower "
                f"learning_rate than {run.learning_rate:g} may help. The last good checkpoint is in {run.folder}"
            )
    state.sums = [total + value for total, value in zip(state.sums, rows[:, :3].sum(0).tolist(), strict=True)]
    state.recent.extend(losses)


def _warn_of_stall(state: RunState, step: int, classes: int) -> None:
    """Warn, once, when after STALL_STEPS the loss is still that of a blind guess."""
    if state.told_of_stall or step < STALL_STEPS or len(state.recent) < STALL_WINDOW:
        return
    state.told_of_stall = True
    recent = sum(state.recent) / len(state.recent)
    if abs(recent - math.log(classes)) < STALL_MARGIN:
        warnings.warn(
            f"after {step} steps the loss is {recent:.3f}, still ln({classes}) = {math.log(classes):.3f}: the net has "
            'not begun to learn. Remedies: initialisation "code2012", "rescaled" or "fan_in" in place of "printed", '
            "another seed, a smaller batch, or patience",
            StallWarning,
            stacklevel=2,
        )


# -------------------------------------------------------------------------------------------------- the results


def _status(state: RunState) -> str:
    """The epoch in a line."""
    val, timing = state.history[-1], state.timing[-1]
    return (
        f"epoch {state.epoch}: loss {state.history[-2]['loss']:.3f}, validation error {val['top1']:.1%}, "
        f"rate {val['learning_rate']:.2g}, {timing['waiting_for_data']:.0%} waiting for data"
    )


def _write_summary(run, stores, state: RunState) -> None:
    """The final errors with one view and ten, and where they come from. Written last: it marks a run as finished."""
    mean = mean_of(stores["train"], run.image_size)
    metrics = {
        "train": {"as trained": {k: state.history[-2][k] for k in ("loss", "top1", "top5")}},
    }
    for split in [split for split in stores if split != "train"]:
        views = {"1 view": 1, "10 views": 10}
        metrics[split] = {
            n: evaluate(state.answering, stores[split], mean, count, state.job) for n, count in views.items()
        }
    if not state.job.leader:
        return
    timing, classes = pd.DataFrame(state.timing), len(stores["train"].classes)
    images = {split: len(store) for split, store in stores.items()}
    write_json(
        run.folder / "summary.json",
        {
            "metrics": metrics,
            "epochs": state.epoch,
            "images": images,
            "classes": classes,
            "parameters": sum(p.numel() for p in net_skeleton(run, classes).parameters()),
            "seconds": timing["seconds"].sum(),
            "images_per_second": timing["images_per_second"].median(),
            "waiting_for_data": timing["waiting_for_data"].median(),
            "seed": run.seed,
            "device": run.device,
            "devices": run.devices,
            "columns": run.columns,
            "dataset": {split: store.meta["fingerprint"] for split, store in stores.items()},
            **provenance(),
        },
    )


def main(arguments=None) -> None:
    """Train from a configuration file, the same as a notebook's call."""
    parser = argparse.ArgumentParser("python -m alexnet_lib.training", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument(
        "config", type=Path, help="a JSON file with the fields of TrainSettings; what is left out is auto"
    )
    given = parser.parse_args(arguments)
    if progress_style() == PIPE:
        warnings.showwarning = lambda message, *_: tell({"warning": str(message)})
    try:
        settings = check(TrainSettings, json.loads(given.config.read_text()))
        if settings.speed == "fast" and not launch.has_allocator():
            launch.with_allocator()
        record = train(settings)
    except (ValueError, OSError, ArithmeticError, JobFailed) as error:
        message = f"{parser.prog}: {error}\n"
        if not inside_job():
            parser.exit(2, message)
        # Python's own ending can abort: after an error the group's threads are left as they are, see launch.join
        print(message, end="", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(2)
    if record is not None:
        print(json.dumps(record.summary["metrics"], indent=1))
        print(record.folder)


if __name__ == "__main__":
    main()
