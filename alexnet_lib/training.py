"""§5, training: the loop, what it writes down, and how it goes on after it was cut off.

What is random (the order of the images, their crops, reflections and colours, the silent units) is a function of
(seed, epoch, image) or (seed, epoch, step), never of a generator's history. So the state of a run is its weights, its
velocities and where it is; a run that is killed at any moment and started again ends with the same bits.

    python -m alexnet_lib.training CONFIG.json
"""

import argparse
import dataclasses
import difflib
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from . import architecture, cifar_nets, keep_memory
from .commands import heard, in_two_lines
from .dataset import Store, load_dataset
from .evaluation import NotNumbers, mean_of
from .files import Damaged, in_work, read_json, write_json
from .loader import batches, fits_on, in_memory
from .progress import PIPE, progress_bar, progress_style, tell
from .run_state import STALL_WINDOW, RunState, build_net, has_finite_weights
from .runs import launch, stopping
from .runs.cifar_settings import BURST, CifarSettings
from .runs.fields import check
from .runs.folder import fingerprints, follow, require_fit, require_same, sole
from .runs.job import Job, JobFailed, inside_job, join, wait_until_prepared
from .runs.processes import GO_ON
from .runs.provenance import provenance
from .runs.records import Record, final_weights, restore_tables, whereabouts, write_tables
from .runs.settings import TrainSettings, resolve
from .runs.step import arithmetic_of, train_step
from .runs.stopping import Stopped
from .runs.stored import digests_of
from .runs.telling import Diary, read_again

CHECK_EVERY = 10  # steps between checks of the loss; each check waits for the device
CHECKPOINT_SECONDS = 600
STALL_STEPS = 500  # by then a net that learns has left the start
STALL_MARGIN = 0.02


class StallWarning(UserWarning):
    """The net has learned nothing: the loss sits at ln(classes), that of a guess, or far above it."""


class NonFiniteLoss(ArithmeticError):
    """The loss or the weights are no longer finite."""


def train(settings, on_epoch: Callable[[pd.DataFrame], None] | None = None) -> Record:
    """Train a net, continuing where an earlier call with the same settings stopped, and return its record.

    With several devices the work is done by as many processes; a process that was started for such a job does its part
    of it. Started from a notebook they outlive its kernel. Where another process is training this run, it is followed
    to its end.

    Args:
        settings: a `TrainSettings` or `CifarSettings`, as `resolve` gives it or with "auto" values.
        on_epoch: called after every epoch with the history so far.

    Raises:
        ValueError: settings that do not belong together, a folder that holds another run, or damaged checkpoints.
        NonFiniteLoss: names the step and the last whole checkpoint.
        JobFailed: a process of several ended before its work was done; says which, and its last lines.
        Interrupted: a KeyboardInterrupt that says what is kept.
    """
    keep_memory()
    dataset = settings.chosen_dataset()
    wait_until_prepared(dataset)
    stores = load_dataset(dataset)
    run = resolve(settings, stores["train"])
    if not inside_job():
        if in_work(run.folder):
            return follow(run, stores, on_epoch)
        require_same(run, stores)
        if (run.folder / "summary.json").is_file():
            return read_again(run.folder)
    with stopping.interruptible(run.folder):
        if not inside_job() and (run.devices > 1 or run.speed == "fast" and not launch.has_allocator()):
            return launch.train_on_devices(run, stores, on_epoch, StallWarning)
        with join(run.columns, run.device) as job:
            run = dataclasses.replace(run, device=job.device)
            if job.leader:
                require_same(run, stores)
            finished = job.as_leader_says((run.folder / "summary.json").is_file())
            if not finished and not _train_here(run, stores, job, on_epoch):
                return follow(run, stores, on_epoch)
            return Record.open(run.folder) if job.leader else None


def _train_here(run, stores: dict[str, Store], job: Job, on_epoch) -> bool:
    """This process's part of a run; False, and nothing done, where another began it at the same time."""
    devices = [run.device] if run.device.startswith("cuda") else []
    # what asks for "cuda" means this one, as torch.compile does
    current = torch.cuda.device(run.device) if devices else nullcontext()
    try:
        with current, sole(run.folder, job) as mine, torch.random.fork_rng(devices), arithmetic_of(run):
            if not mine:
                return False
            if job.as_leader_says((run.folder / "summary.json").is_file()):
                return True  # finished since we looked
            if job.leader:
                require_same(run, stores)  # again: nobody else can write there now
            state = RunState(run, len(stores["train"].classes), job, fingerprints(stores))
            if job.leader:
                write_json(run.folder / "config.json", dataclasses.asdict(run))
            if run.keeps_images_in_memory or not run.named.distorted and fits_on(run.device, stores):
                stores = in_memory(stores, run.device)
            with stopping.looking():
                run_epochs(run, stores, state, on_epoch)
                _write_summary(run, stores, state)
            return True
    except RuntimeError as error:
        if job.mesh is None:
            raise
        left = f"; {whereabouts(run.folder)}" if job.leader else ""
        said = f"{error}\nAnother process of the job has ended, or this one failed{left}"
        raise JobFailed(launch.with_remedies(said)) from error


def load_net(record: Record) -> nn.Module:
    """The trained net of a finished run, on the CPU, in evaluation mode; Damaged where its files are no run's."""
    kind = kind_of(record.config)
    changes = {"device": "cpu"} | ({"speed": "repeatable"} if kind is TrainSettings else {})
    try:
        settings = check(kind, record.config | changes)
    except ValueError as error:
        raise Damaged(f"{record.folder / 'config.json'}: {error}") from None
    weights, net = final_weights(record), build_net(settings, record.summary["classes"])
    require_fit(record.folder, weights, net.state_dict())
    net.load_state_dict(weights)
    return net.eval()


# ----------------------------------------------------------------------------------------------------- the loop


def run_epochs(run, stores: dict[str, Store], state: RunState, on_epoch) -> None:
    """Epochs until the schedule ends; after each the validation error, the records and a checkpoint."""
    store, job = stores["train"], state.job
    mean, steps = mean_of(store, run.image_size), math.ceil(len(store) / run.batch_size)
    look = run.look_at(state.net, store)
    done = state.epoch * steps + state.step
    with (
        progress_bar(run.epochs * steps, "training", "step", job.leader, done, says=True) as bar,
        closing(Diary(run, state, steps, bar)) as diary,
    ):
        while state.epoch < run.epochs and not state.ended:
            began, first = time.perf_counter(), state.step * run.batch_size
            waited = train_epoch(run, store, mean, steps, state, bar, diary)
            seconds, images = time.perf_counter() - began, max(0, len(store) - first)
            errors = _validate(run, stores["val"], mean, state, (1,))[1]
            state.end_epoch(len(store), errors, look())
            speed = {"seconds": seconds, "images_per_second": images / seconds, "waiting_for_data": waited / seconds}
            state.timing.append({"epoch": state.epoch} | speed)
            if job.leader:
                write_tables(run.folder, state)
            state.save(run.folder)
            bar.set_postfix_str(_status(state), refresh=False)
            diary.epoch()
            if on_epoch is not None and job.leader:
                on_epoch(pd.DataFrame(state.history))


def train_epoch(run, store: Store, mean: Tensor, steps: int, state: RunState, bar, diary: Diary) -> float:
    """The rest of an epoch from state.step on; returns the seconds spent waiting for data.

    Raises:
        Stopped: a signal has come, and there is a checkpoint.
    """
    pending, waited, saved = [], 0.0, time.perf_counter()
    data = batches(run, store, mean, state.epoch, state.step, state.job)
    state.net.train()
    while state.step < steps:
        asked = time.perf_counter()
        x, labels = next(data)
        waited += time.perf_counter() - asked

        done = (state.epoch + state.step / steps) / run.epochs
        run.set_rates(state.optimizer, state.rule, state.epoch, done)
        state.job.batch = min(run.batch_size, len(store) - state.step * run.batch_size)
        pending.append(train_step(run, state, x, labels))
        state.step += 1
        bar.update(1)

        last = run.named.average_last
        if last and state.epoch + state.step / steps > run.epochs * (1 - last):
            state.average.update_parameters(state.net)
        if state.step % CHECK_EVERY == 0 or state.step == steps:
            diary.losses(_count(run, state, pending))
            pending = []
            if state.job.leader and run.warns_of_a_stall:
                _warn_of_stall(state, state.epoch * steps + state.step, len(store.classes))
            late = time.perf_counter() - saved > CHECKPOINT_SECONDS
            if reason := state.job.as_leader_says(stopping.asked[:1] or late):
                state.save(run.folder)
                saved = time.perf_counter()
                if reason is not True:
                    raise Stopped
    return waited


def _count(run, state: RunState, pending: list[Tensor]) -> list[float]:
    """Add what the last steps measured to the epoch's sums; returns their losses.

    Raises:
        NonFiniteLoss: before anything of these steps is saved.
    """
    rows = state.job.sum(torch.stack(pending)).cpu().double()
    losses = (rows[:, 0] / rows[:, 3]).tolist()
    for i, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise _numberless(run, state, f"the loss is {loss} at step {state.step - len(losses) + i + 1}")
    _require_finite(run, state, state.net)  # the last update may have been one too many
    state.sums = [total + value for total, value in zip(state.sums, rows[:, :3].sum(0).tolist(), strict=True)]
    state.recent = [*state.recent, *losses][-STALL_WINDOW:]
    return losses


def _validate(run, store: Store, mean: Tensor, state: RunState, views: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """The errors of the net as it is, by the number of views of an image.

    Raises:
        NonFiniteLoss: its weights or its answers are not numbers.
        Stopped: a signal has come, and there is a checkpoint of before the test.
    """
    _require_finite(run, state, state.answering)
    state.job.share_statistics(state.answering)  # otherwise no saved net would have these errors
    try:
        return run.measure(state.answering, store, mean, views, state.job)
    except Stopped:
        if state.step:  # at the end of an epoch it is saved already
            state.save(run.folder)
        raise
    except NotNumbers as error:  # what finite weights answer may still be beyond all numbers
        raise _numberless(run, state, f"{error}, after step {state.step}") from None


def _require_finite(run, state: RunState, net: nn.Module) -> None:
    if not has_finite_weights(net, state.job):
        raise _numberless(run, state, f"the weights are no longer finite after step {state.step}")


def _numberless(run, state: RunState, what: str) -> NonFiniteLoss:
    """The error of a run that has diverged, with what is left of it; the other processes of a job do not know that."""
    left = f"; {whereabouts(run.folder)}" if state.job.leader else ""
    what = f"{what} of epoch {state.epoch + 1}; a lower learning_rate than {run.learning_rate:g} may help{left}"
    return NonFiniteLoss(what)


def _warn_of_stall(state: RunState, step: int, classes: int) -> None:
    """Warn, once, when after STALL_STEPS the loss is still that of a blind guess."""
    if state.warned or step < STALL_STEPS or len(state.recent) < STALL_WINDOW:
        return
    recent = sum(state.recent) / len(state.recent)
    if abs(recent - math.log(classes)) < STALL_MARGIN:
        _warn(
            state,
            f"after {step} steps the loss is {recent:.3f}, still ln({classes}) = {math.log(classes):.3f}: the net has "
            'not begun to learn. Remedies: initialisation "code2012", "rescaled" or "fan_in" in place of "printed", '
            "another seed, a smaller batch, or patience",
        )


def _warn_of_burst(state: RunState, loss: float, classes: int) -> None:
    """Warn of a run that ends further from the truth than a guess would be."""
    if loss > BURST * math.log(classes):
        _warn(
            state,
            f"the run has ended at a validation loss of {loss:.3g}, far above the {math.log(classes):.3g} of a guess "
            "among its classes: it has learned nothing. A lower learning_rate may help",
        )


def _warn(state: RunState, text: str) -> None:
    """Warn, and keep the words for those who only read the record."""
    state.warned = [*state.warned, text]
    warnings.warn(text, StallWarning, stacklevel=3)


# -------------------------------------------------------------------------------------------------- the results


def _status(state: RunState) -> str:
    """The epoch in a line."""
    val, timing = state.history[-1], state.timing[-1]
    return (
        f"epoch {state.epoch}: loss {state.history[-2]['loss']:.3f}, validation error {val['top1']:.1%}, "
        f"rate {val['learning_rate']:.2g}, {timing['waiting_for_data']:.0%} waiting for data"
    )


def _write_summary(run, stores: dict[str, Store], state: RunState) -> None:
    """The final errors by views, and where they come from. Written last: it marks a run as finished."""
    mean, views = mean_of(stores["train"], run.image_size), run.views(stores["train"])
    metrics = {"train": {"as trained": {k: state.history[-2][k] for k in ("loss", "top1", "top5")}}}
    for split in [split for split in stores if split != "train"]:
        errors = _validate(run, stores[split], mean, state, views)
        metrics[split] = {label(n): found for n, found in errors.items()}
    if not state.job.leader:
        return
    restore_tables(run.folder, state)  # those of a run that was taken up at its end may be damaged
    timing = pd.DataFrame(state.timing, columns=["seconds", "images_per_second", "waiting_for_data"])
    classes = len(stores["train"].classes)
    if state.ended != "gave up":
        _warn_of_burst(state, metrics["val"]["1 view"]["loss"], classes)
    median = {name: column.median() for name, column in timing.items() if len(timing)}
    summary = {
        "metrics": metrics,
        "epochs": state.epoch,
        "ended": state.ended or "schedule",
        "warnings": state.warned,
        "images": {split: len(store) for split, store in stores.items()},
        "classes": classes,
        "parameters": sum(p.numel() for p in run.skeleton(classes).parameters()),
        "seconds": timing["seconds"].sum(),
        "images_per_second": median.get("images_per_second"),
        "waiting_for_data": median.get("waiting_for_data"),
        "seed": run.seed,
        "device": run.device,
        "devices": state.job.replicas * state.job.columns,  # torchrun may have started them for any settings
        "columns": run.columns,
        "compiled": state.compiled,
        "emulated": state.emulated,
        "dataset": fingerprints(stores),
        "lossy_pictures": stores["train"].meta.get("lossy", False),
        **provenance(),
    }
    write_json(
        run.folder / "summary.json",
        summary | {"digests": digests_of(run.folder, read_json(run.folder / "config.json"), summary)},
    )


def label(views: int) -> str:
    """The name that a summary gives to a test with this many views of each image."""
    return {1: "1 view", 9: "9 shifts"}.get(views, f"{views} views")


def kind_of(config: dict) -> type:
    """Whose settings these are, by the net or, where its name is misspelt, by the one that is probably meant."""
    close = difflib.get_close_matches(str(config.get("net")), [*cifar_nets.NETS, *architecture.NETS], 1)
    return CifarSettings if close and close[0] in cifar_nets.NETS or "stages" in config else TrainSettings


def main(arguments=None) -> None:
    """Train from a configuration file, the same as a notebook's call."""
    parser = argparse.ArgumentParser("python -m alexnet_lib.training", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument(
        "config", type=Path, help="a JSON file with fields of TrainSettings, or of CifarSettings for a net of CIFAR-10"
    )
    given = parser.parse_args(arguments)
    if progress_style() == PIPE:
        warnings.showwarning = lambda message, *_: tell({"warning": str(message)})
    try:
        config = read_json(given.config)
        settings = check(kind_of(config), config)
        if settings.speed == "fast" and not launch.has_allocator():
            launch.with_allocator()
        stopping.note_signals()
        with heard(Stopped):
            record = train(settings)
        if record is not None:
            print(json.dumps(record.summary["metrics"], indent=1))
            print(record.folder)
    except Stopped as stop:
        message = f"{parser.prog}: {in_two_lines(stop)}\n"
        if not inside_job():
            parser.exit(GO_ON, message)
        print(message, end="", file=sys.stderr, flush=True)
        os._exit(GO_ON)  # as below
    except (ValueError, OSError, ImportError, ArithmeticError, JobFailed) as error:
        message = f"{parser.prog}: {error}\n"
        if not inside_job():
            parser.exit(2, message)
        get_error_handler().record_exception(error)  # for the one that watches over the job, be it torchrun
        # Python's own ending can abort: after an error the group's threads are left as they are, see job.join
        print(message, end="", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(2)
    except KeyboardInterrupt as stop:
        parser.exit(130, f"{parser.prog}: {in_two_lines(stop)}\n")


if __name__ == "__main__":
    main()
