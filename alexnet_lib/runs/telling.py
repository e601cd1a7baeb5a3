"""§5, what a person sees of a run of days: a line an epoch, the losses, TensorBoard's events, the falls of the rate."""

import re
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
from tqdm import tqdm

from ..files import write_file
from ..learning import patience_for
from ..progress import say
from .records import CHECKPOINTS, Record, moment

LOSSES = "losses.csv"  # epoch, step within it, mean loss of the steps since the row before, learning rate
HEADER = "epoch,step,loss,learning_rate"
# as we write one; `int` takes the digits of other alphabets, too, and refuses thousands of them
ROW = re.compile(r"(\d{1,18}),(\d{1,18}),[^,]*,[^,]*", re.ASCII)
FALLING = ("plateau", "steps", "stages")  # schedules whose rate falls at once


def read_again(folder: Path) -> Record:
    """The record of a finished run, after saying which it is, how to train anew, and what the run warned of."""
    record = Record.open(folder)
    say(
        tqdm,
        f"This run is finished, so it was read and not trained: {folder}. To train anew, ask for another seed, or "
        "delete that folder.",
    )
    for text in record.summary.get("warnings", []):
        say(tqdm, f"It ended with a warning: {text}.")
    return record


class Diary:
    """What the first process of a run writes down, and says above its progress bar. Others are silent.

    state: a `RunState`, as it goes on. steps: of an epoch.
    """

    def __init__(self, run, state, steps: int, bar):
        self.run, self.state, self.steps, self.bar, self.events = run, state, steps, bar, None
        self.began, self.first = time.perf_counter(), state.epoch + state.step / steps
        if not state.job.leader:
            return
        write_file(run.folder / LOSSES, _rows_until(run.folder / LOSSES, state.epoch + 1, state.step))
        if self.first:
            self.say(
                f"This run goes on from {moment(state.epoch, state.step)}, as its checkpoint in {run.folder} has it."
            )
            if not state.step:  # the end of an epoch, after which it may have been killed before the next line
                self._look_ahead()
        self.events = _events(run.folder / "events", state.epoch * steps + state.step)
        if run.named.schedule == "plateau":
            patience = patience_for(run.epochs)
            self.say(
                f"{run.epochs} epochs at most: the rate is divided by {state.rule.factor:g} after {patience} epochs "
                f"without a lower validation error, {state.rule.drops} times; the next such wait ends the run"
            )

    def say(self, line: str, only_to_logs: bool = False) -> None:
        if self.state.job.leader:
            say(self.bar, line, only_to_logs)

    def losses(self, losses: list[float]) -> None:
        """Write down the mean loss of the last steps."""
        if not self.state.job.leader:
            return
        loss, rate = sum(losses) / len(losses), self.state.optimizer.param_groups[0]["lr"]
        path = self.run.folder / LOSSES
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{self.state.epoch + 1},{self.state.step},{loss:.6g},{rate:.6g}\n")
        except OSError as error:  # a full disk does not say where it is full
            raise OSError(error.errno, error.strerror, str(path)) from error
        self._event(self.state.epoch * self.steps + self.state.step, loss=loss, rate=rate)

    def epoch(self) -> None:
        """Say how the epoch was that has just ended, and whether the rate is about to fall or the run has ended."""
        run, state = self.run, self.state
        if not state.job.leader:
            return
        train, val, timing = state.history[-2], state.history[-1], state.timing[-1]
        done = state.epoch - self.first  # none, where only the test of an epoch was left
        left = (time.perf_counter() - self.began) / done * (run.epochs - state.epoch) if done else 0.0
        memory = torch.cuda.max_memory_allocated(run.device) / 1e9 if run.device.startswith("cuda") else 0.0
        self.say(
            f"epoch {state.epoch} of {run.epochs}: loss {train['loss']:.3f}, in validation {val['loss']:.3f}; errors "
            f"{train['top1']:.1%}, {val['top1']:.1%} (top-5 {val['top5']:.1%}); rate {val['learning_rate']:.2g}; "
            f"{timing['images_per_second']:,.0f} images/s, {timing['waiting_for_data']:.0%} waiting for data"
            + (f", {memory:.1f} GB on the GPU" if memory else "")
            + (f"; {_duration(left)} left" if left else ""),
            only_to_logs=True,
        )
        errors = {f"error/{name}": row["top1"] for name, row in (("train", train), ("validation", val))}
        self._event(state.epoch * self.steps, images_per_second=timing["images_per_second"], gpu_gb=memory, **errors)
        if state.ended == "plateau":
            self.say(
                f"the plateau rule ends the run, {run.epochs - state.epoch} epochs before its schedule: no lower "
                f"validation error for {state.rule.patience} epochs at the last rate"
            )
        self._look_ahead()

    def _look_ahead(self) -> None:
        """If a rate falls in the next epoch announce it, and keep the checkpoint of before."""
        if self.state.ended or self.state.epoch >= self.run.epochs or self.run.named.schedule not in FALLING:
            return
        groups = self.state.optimizer.param_groups
        coming = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        done = (self.state.epoch + 1 - 1 / self.steps) / self.run.epochs
        self.run.set_rates(SimpleNamespace(param_groups=coming), self.state.rule, self.state.epoch, done)
        pairs = [(float(group["lr"]), float(new["lr"])) for group, new in zip(groups, coming, strict=True)]
        falls = [(old, new) for old, new in pairs if new < old / 2]
        if falls:
            kept = self.run.folder / f"checkpoint.epoch{self.state.epoch}.pt"
            if not kept.is_file():
                write_file(kept, (self.run.folder / CHECKPOINTS[0]).read_bytes())
            old, new = falls[0]
            self.say(f"the rate falls from {old:.2g} to {new:.2g} in epoch {self.state.epoch + 1}; {kept.name} is kept")

    def _event(self, step: int, **values: float) -> None:
        for name, value in values.items():
            if self.events is not None:
                self.events.add_scalar(name, value, step)

    def close(self) -> None:
        if self.events is not None:
            self.events.close()


def _rows_until(path: Path, epoch: int, step: int) -> bytes:
    """What is known of the losses up to a step; what came after it is done again. Damaged lines are left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[1:] if path.is_file() else []
    rows = [ROW.fullmatch(line) for line in lines]
    kept = [row[0] for row in rows if row and (int(row[1]), int(row[2])) <= (epoch, step)]
    return ("\n".join([HEADER, *kept]) + "\n").encode()


def _events(folder: Path, first_step: int):
    """A writer of TensorBoard's events, where `tensorboard` is installed; one that is broken only warns."""
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder), purge_step=first_step)
    except Exception as error:  # it is not there; or it is, and its version, its dependencies or the disk are not right
        if getattr(error, "name", "") == "tensorboard":
            return None
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"TensorBoard does not work here ({reason}); {LOSSES} holds what it would show", stacklevel=3)
        return None


def _duration(seconds: float) -> str:
    """For people: the two largest units."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next((i for i, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2])
