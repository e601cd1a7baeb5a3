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
import time
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import launch
from .architecture import alexnet
from .columns import own_column, own_part, whole
from .dataset import Store, load_dataset
from .evaluation import evaluate, mean_of, top_k_credit
from .inception import HEAD_WEIGHT, each_output, googlenet
from .launch import ALONE, Job, JobFailed, inside_job
from .learning import (
    PaperSGD,
    PlateauRule,
    averaging,
    four_per_cent_less,
    initialise,
    parameter_groups,
    patience_for,
    rate_factor,
    recipe,
    set_rates,
)
from .loader import batches
from .normalization import LocalResponseNorm
from .progress import PIPE, progress_bar, progress_style, tell
from .records import Record, load_checkpoint, provenance, save_checkpoint, write_json, write_table
from .settings import TrainSettings, check, net_changes, net_skeleton, resolve

CHECK_EVERY = 10  # steps between looks at the losses, each of which waits for the device
CHECKPOINT_SECONDS = 600
STALL_STEPS = 500  # by then a net that learns has left the start
STALL_WINDOW = 50
STALL_MARGIN = 0.02
PLAIN_STATE = ("epoch", "step", "sums", "stopped", "history")


class StallWarning(UserWarning):
    """The loss sits at ln(classes), that of a net that knows nothing."""


class NonFiniteLoss(ArithmeticError):
    """The loss is not a number any more."""


def train(settings: TrainSettings, on_epoch: Callable[[pd.DataFrame], None] | None = None) -> Record:
    """Train a net, from where an earlier call with the same settings left off, and return its record.

    With several devices the work is done by as many processes, started through torchrun; a process that torchrun
    has started does its part of it. Such processes outlive this one: where another process is training this run, it is
    followed to its end.

    Args:
        settings: what to train; "auto" values are chosen to suit the data set.
        on_epoch: called after every epoch with the history so far.

    Raises:
        ValueError: settings that do not belong together.
        NonFiniteLoss: names the step and the last good checkpoint.
        JobFailed: a process of several ended before its work was done; says which, and its last lines.
    """
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
        if not job.as_leader_says((run.folder / "summary.json").is_file()):
            _train_here(run, stores, job, on_epoch)
        return Record.open(run.folder) if job.leader else None


def _train_here(run: TrainSettings, stores: dict[str, Store], job: Job, on_epoch) -> None:
    """This process's part of a run."""
    torch.backends.cudnn.benchmark = run.speed == "fast"
    try:
        with (
            launch.at_work(run.folder, job),
            torch.random.fork_rng([run.device] if run.device.startswith("cuda") else []),
        ):
            if job.leader:
                write_json(run.folder / "config.json", dataclasses.asdict(run))
            state = _State(run, len(stores["train"].classes), job)
            _train_epochs(run, stores, state, on_epoch)
            _write_summary(run, stores, state)
    except RuntimeError as error:
        if job.mesh is None:
            raise
        raise JobFailed(
            f"{error}\nAnother process of the job has ended, or this one failed. The last checkpoint is in "
            f"{run.folder}; the same command goes on from it"
        ) from error


def build_net(run: TrainSettings, classes: int) -> nn.Module:
    """The untrained net of a run, on its device."""
    build = googlenet if run.net == "googlenet" else partial(alexnet, run.net)
    net = build(classes, seed=run.seed, **net_changes(run))
    net = initialise(net, run.initialisation, run.seed)
    for layer in net.children():
        if isinstance(layer, LocalResponseNorm):
            layer.compiled = run.speed == "fast"
    return net.to(run.device, memory_format=torch.channels_last)


def load_net(record: Record) -> nn.Module:
    """The trained net of a finished run, on the CPU, in evaluation mode."""
    state = load_checkpoint(record.folder)
    if state is None:
        raise FileNotFoundError(f"no checkpoint in {record.folder}")
    run = check(TrainSettings, record.config | {"device": "cpu", "speed": "repeatable"})
    net = build_net(run, record.summary["classes"])
    net.load_state_dict(state.get("averaged", state["net"]))
    return net.eval()


class _State:
    """Where a run is: its weights, velocities and rule, the epoch and step, and the history that it leaves.

    Each process of a job has its column's part of the tensors. A checkpoint holds the whole ones, and is written and
    read by the first process, so that it goes on in any layout.
    """

    def __init__(self, run: TrainSettings, classes: int, job: Job = ALONE):
        self.job, self.net = job, own_column(build_net(run, classes), job)
        named = recipe(run.recipe)
        self.optimizer = PaperSGD(parameter_groups(self.net, named), run.learning_rate, named.momentum)
        self.schedule = named.schedule
        self.rule = PlateauRule(run.learning_rate, patience=patience_for(run.epochs))
        self.average = averaging(self.net) if named.average_last else None
        self.epoch = self.step = 0
        self.sums = [0.0, 0.0, 0.0]  # of loss and top-1 and top-5 credit, over the images of this epoch so far
        self.stopped = self.told_of_stall = False
        self.recent: deque[float] = deque(maxlen=STALL_WINDOW)  # losses of the last steps
        self.history: list[dict] = []
        self.timing: list[dict] = []
        saved = load_checkpoint(run.folder) if job.leader else None
        progress = job.as_leader_says(None if saved is None else saved["progress"])
        if progress is not None:
            self._load(progress, saved)
            timing = run.folder / "timing.csv"
            rows = pd.read_csv(timing).to_dict("records") if job.leader and timing.is_file() else []
            self.timing = [row for row in rows if row["epoch"] <= self.epoch]
        self.forward = job.synchronised(self.net)

    @property
    def answering(self) -> nn.Module:
        """The net that is tested: with the averaged weights, where there are any."""
        return self.average.module if self.average is not None and self.average.n_averaged else self.net

    def end_epoch(self, images: int, errors: dict) -> None:
        """Write the epoch into the history, and ask the plateau rule about the next where it is in force."""
        loss, top1, top5 = (total / images for total in self.sums)
        rate = self.optimizer.param_groups[0]["lr"]
        self.epoch, self.step, self.sums = self.epoch + 1, 0, [0.0, 0.0, 0.0]
        measured = {"train": {"loss": loss, "top1": 1 - top1, "top5": 1 - top5}, "val": errors}
        for split, row in measured.items():
            self.history.append({"epoch": self.epoch, "split": split, **row, "learning_rate": rate})
        if self.schedule == "plateau":
            self.stopped = self.rule.step(errors["top1"]) is None

    def save(self, folder: Path) -> None:
        """Write a checkpoint: tensors by the names of the layers, and the rest as text. All columns must call."""
        plain = {name: getattr(self, name) for name in PLAIN_STATE}
        rates = [{name: group[name] for name in ("lr", "buffer_lr")} for group in self.optimizer.param_groups]
        averaged = 0 if self.average is None else int(self.average.n_averaged)
        progress = json.dumps(plain | {"rates": rates, "rule": self.rule.state_dict(), "averaged": averaged})
        if self.job.replica == 0:
            tensors = {"net": self.net.state_dict(), "velocity": self._velocity()}
            if self.answering is not self.net:
                tensors["averaged"] = self.answering.state_dict()
            tensors = {kind: whole(own, self.job) for kind, own in tensors.items()}
            if self.job.leader:
                save_checkpoint(folder, {**tensors, "progress": progress})

    def _velocity(self) -> dict[str, Tensor]:
        named, kept = self.net.named_parameters(), self.optimizer.state
        return {name: kept[p]["momentum_buffer"] for name, p in named if p in kept}

    def _load(self, progress: str, saved: dict | None) -> None:
        """Take one's part of a checkpoint that only the first process has read."""
        job, named = self.job, dict(self.net.named_parameters())
        averaged = {} if self.average is None else dict(self.average.module.named_parameters())
        kinds = job.as_leader_says(
            saved and {k: {n: t.shape for n, t in saved[k].items()} for k in saved if k != "progress"}
        )
        for kind, shapes in job.as_leader_says(kinds).items():
            for name, shape in shapes.items():
                p = (averaged if kind == "averaged" else named)[name]
                part = own_part(job.leaders_tensor(saved and saved[kind][name], shape, p.dtype), job).to(p.device)
                if kind != "velocity":
                    p.data.copy_(part)
                else:
                    self.optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(part)
        progress = json.loads(progress)
        if self.average is not None:
            self.average.n_averaged.fill_(progress["averaged"])
        for group, rates in zip(self.optimizer.param_groups, progress["rates"], strict=True):
            group.update(rates)
        self.rule.load_state_dict(progress["rule"])
        for name in PLAIN_STATE:
            setattr(self, name, progress[name])


# ----------------------------------------------------------------------------------------------------- the loop


def _train_epochs(run, stores, state: _State, on_epoch) -> None:
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


def _train_epoch(run, store: Store, mean: Tensor, state: _State, bar) -> float:
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


def _step(run, state: _State, x: Tensor, labels: Tensor) -> Tensor:
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


def _set_rates(run, named, state: _State, steps: int) -> None:
    """Give each group of parameters the rate of the next step."""
    done = (state.epoch + state.step / steps) / run.epochs
    if named.schedule == "plateau":
        rate = state.rule.rate
    elif named.schedule == "four_per_cent":
        rate = run.learning_rate * four_per_cent_less(state.epoch)
    else:
        rate = run.learning_rate * rate_factor(named, done)
    set_rates(state.optimizer, named, rate, done)


def _count(run, state: _State, pending: list[Tensor]) -> None:
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


def _warn_of_stall(state: _State, step: int, classes: int) -> None:
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


def _status(state: _State) -> str:
    """The epoch in a line."""
    val, timing = state.history[-1], state.timing[-1]
    return (
        f"epoch {state.epoch}: loss {state.history[-2]['loss']:.3f}, validation error {val['top1']:.1%}, "
        f"rate {val['learning_rate']:.2g}, {timing['waiting_for_data']:.0%} waiting for data"
    )


def _write_summary(run, stores, state: _State) -> None:
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
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.training", description=__doc__.splitlines()[0])
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
        parser.exit(2, f"{parser.prog}: {error}\n")
    if record is not None:
        print(json.dumps(record.summary["metrics"], indent=1))
        print(record.folder)


if __name__ == "__main__":
    main()
