"""§3.1 and §3.3, training the CIFAR nets: small ones, many times, so the pictures stay in memory on the device.

What is random (the order of the images, their crops and reflections) is a function of (seed, epoch, image). So the
state of a run is its weights, its velocities and the epoch; a run that is killed at any moment and started again ends
with the same bits. It leaves the same files as `training.train` does (records.py).

    python -m alexnet_lib.cifar_training CONFIG.json
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import keep_memory
from .cifar_nets import cifar_net, cifar_parameter_groups, saturation
from .cifar_pictures import VIEWS, Pictures, batches, cut, evaluate, load_pictures, same_view
from .dataset import load_dataset
from .evaluation import NotNumbers, rank_credit
from .learning import PaperSGD
from .progress import progress_bar
from .run_state import velocity_of
from .runs.cifar_settings import CifarSettings, choose_pictures, resolve
from .runs.folder import data_differences, fingerprints, follow, require_fit, require_same, sole
from .runs.launch import JobFailed
from .runs.records import (
    DamagedCheckpoint,
    Record,
    are_finite,
    final_weights,
    load_checkpoint,
    provenance,
    read_json,
    read_timing,
    refuse_differences,
    restore_tables,
    save_checkpoint,
    write_json,
    write_tables,
)
from .runs.settings import check
from .training import BURST, numberless, warn_of_burst

CHECK_EVERY = 50  # steps between looks at the loss, each of which waits for the device
LIKE_A_GUESS, PLATEAU = 0.95, 3  # so close to a guess's error a run is given three times as long
PLAIN_STATE = ("epoch", "ended", "history", "data")
LOOKED_AT = 512  # training images whose hidden units are looked at for saturation


# --------------------------------------------------------------------------------------------------------- the loop


def train_cifar(settings: CifarSettings, on_epoch: Callable[[pd.DataFrame], None] | None = None) -> Record:
    """Train a CIFAR net, from where an earlier call with the same settings left off, and return its record.

    Args:
        settings: what to train; "auto" values are chosen to suit the data.
        on_epoch: called after every epoch with the history so far.

    Raises:
        ValueError: settings that do not belong together, a folder that holds another run, or damaged checkpoints.
        NonFiniteLoss: names the step, the rate and the last whole checkpoint.
    """
    keep_memory()
    stores = load_dataset(choose_pictures(settings.dataset))
    run = resolve(settings, stores["train"])
    require_same(run, stores)
    if (run.folder / "summary.json").is_file():
        return Record.open(run.folder)
    with sole(run.folder) as mine:
        if mine and not (run.folder / "summary.json").is_file():  # finished since we looked
            require_same(run, stores)  # again: nobody else can write there now
            state = _State(run, len(stores["train"].classes), fingerprints(stores))
            write_json(run.folder / "config.json", dataclasses.asdict(run))
            pictures = load_pictures(stores, run.image_size, run.input_divisor, run.device)
            _train_epochs(run, pictures, state, on_epoch)
            _write_summary(run, stores, pictures, state)
    return Record.open(run.folder) if mine else follow(run, stores, on_epoch)


def build_net(run: CifarSettings, classes: int) -> nn.Sequential:
    """The untrained net of a run, on its device."""
    choices = {name: getattr(run, name) for name in ("activation", "initialisation", "normalization")}
    net = cifar_net(run.net, classes, **choices, image_size=run.image_size, compiled=run.compiled, seed=run.seed)
    return net.to(run.device, memory_format=torch.channels_last)


def load_net(record: Record) -> nn.Sequential:
    """The trained net of a finished run, on the CPU, in evaluation mode."""
    weights = final_weights(record)
    net = build_net(check(CifarSettings, record.config | {"device": "cpu"}), record.summary["classes"])
    require_fit(record.folder, weights, net.state_dict())
    net.load_state_dict(weights)
    return net.eval()


class _State:
    """Where a run is: its weights, velocities and rates, the epoch, and the history that it leaves."""

    def __init__(self, run: CifarSettings, classes: int, data: dict[str, str] | None = None):
        self.net = build_net(run, classes)
        groups = cifar_parameter_groups(self.net, run.net, run.learning_rate, run.bias_rate, run.weight_decay)
        self.optimizer = PaperSGD(groups, run.learning_rate)
        self.classes, self.epoch, self.ended, self.data = classes, 0, "", data or {}
        self.history: list[dict] = []
        self.timing: list[dict] = []
        saved = load_checkpoint(run.folder)
        if saved is not None:
            self._load(saved, run.folder)
            self.timing = read_timing(run.folder, self.epoch).to_dict("records")

    def save(self, folder: Path) -> None:
        tensors = {"net": self.net.state_dict(), "velocity": velocity_of(self.net, self.optimizer)}
        rates = [{name: group[name] for name in ("lr", "buffer_lr")} for group in self.optimizer.param_groups]
        progress = json.dumps({name: getattr(self, name) for name in PLAIN_STATE} | {"rates": rates})
        save_checkpoint(folder, tensors | {"progress": progress})

    def _load(self, saved: dict, folder: Path) -> None:
        progress = json.loads(saved.get("progress", "{}"))
        if not {*PLAIN_STATE[:3], "rates"} <= progress.keys() or not {"net", "velocity"} <= saved.keys():
            raise DamagedCheckpoint(f"the checkpoint in {folder} is no CIFAR run's; move or delete the folder")
        refuse_differences(folder, data_differences(progress.get("data"), self.data))
        for kind in ("net", "velocity"):
            require_fit(folder, saved[kind], self.net.state_dict(), every=kind == "net")
        self.net.load_state_dict(saved["net"])
        for name, p in self.net.named_parameters():
            if name in saved["velocity"]:
                self.optimizer.state[p]["momentum_buffer"] = saved["velocity"][name].to(p.device)
        for group, rates in zip(self.optimizer.param_groups, progress["rates"], strict=True):
            group.update(rates)
        self.epoch, self.ended, self.history = progress["epoch"], progress["ended"], progress["history"]


def _train_epochs(run, pictures, state: _State, on_epoch) -> None:
    """Epochs until the schedule or the target ends them; after each the records and a checkpoint."""
    images = len(pictures["train"].labels)
    chosen = torch.from_numpy(np.random.default_rng(run.seed).permutation(images)[:LOOKED_AT]).to(run.device)
    looked_at = cut(pictures["train"], chosen, same_view(pictures["train"], chosen))
    steps = math.ceil(images / run.batch_size)
    with progress_bar(run.epochs * steps, "training", "step", initial=state.epoch * steps) as bar:
        while state.epoch < run.epochs and not state.ended:
            began = time.perf_counter()
            trained = _train_epoch(run, pictures["train"], state, bar, steps)
            seconds = time.perf_counter() - began
            # the last update may have been one too many
            _require_finite(run, state, steps, *state.net.parameters(), state.net(looked_at))
            shares = saturation(state.net, looked_at, run.activation)
            try:
                errors = evaluate(state.net, pictures["val"])
            except NotNumbers as error:
                raise numberless(run, f"{error}, after epoch {state.epoch + 1}") from None
            _end_epoch(run, state, trained | shares, errors)
            state.timing.append({"epoch": state.epoch, "seconds": seconds, "images_per_second": images / seconds})
            write_tables(run.folder, state)
            state.save(run.folder)
            bar.set_postfix_str(f"epoch {state.epoch}: training error {trained['top1']:.1%}", refresh=False)
            if on_epoch is not None:
                on_epoch(pd.DataFrame(state.history))


def _train_epoch(run, pictures: Pictures, state: _State, bar, steps: int) -> dict[str, float]:
    """One epoch; returns loss, top-1 and top-5 error over it, as the weights were at each batch."""
    for group in state.optimizer.param_groups:
        group["lr"] = run.bias_rate if group["layer"] == "biases" else run.rate(state.epoch)
    state.net.train()
    data = batches(pictures, run.batch_size, run.seed, state.epoch, run.augmentation)
    pending, sums = [], torch.zeros(3, dtype=torch.float64)
    for number, (x, labels) in enumerate(data, 1):
        pending.append(training_step(state.net, state.optimizer, x, labels, run.precision))
        bar.update(1)
        if number % CHECK_EVERY == 0 or number == steps:
            for row in torch.stack(pending).cpu().double():  # not every device has float64
                sums += row
            pending = []
            _require_finite(run, state, number, sums)
    loss, top1, top5 = (sums / len(pictures.labels)).tolist()
    return {"loss": loss, "top1": 1 - top1, "top5": 1 - top5}


def training_step(net: nn.Module, optimizer, x: Tensor, labels: Tensor, precision: str = "fp32") -> Tensor:
    """One update; returns the batch's sums of loss, top-1 and top-5 credit, still on the device."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = net(x)
    logits = logits.float()
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        credit = [rank_credit(logits, labels, k).sum() for k in (1, 5)]
        return torch.stack([loss.detach() * len(labels), *credit])


def _require_finite(run, state: _State, step: int, *values: Tensor) -> None:
    if not are_finite(values):
        raise numberless(run, f"the loss or weights are not finite any more by step {step} of epoch {state.epoch + 1}")


def _end_epoch(run, state: _State, trained: dict, validated: dict) -> None:
    """Write the epoch into the history, and say whether the run ends with it."""
    rate, state.epoch = run.rate(state.epoch), state.epoch + 1
    for split, row in {"train": trained, "val": validated}.items():
        state.history.append({"epoch": state.epoch, "split": split, **row, "learning_rate": rate})
    if run.target_error is not None and trained["top1"] <= run.target_error:
        state.ended = "target"
    elif run.target_error is not None and _is_hopeless(run, state):
        state.ended = "gave up"


def _is_hopeless(run, state: _State) -> bool:
    """Whether neither the pace of the last epochs nor that of the last one alone leads to the target in time.

    Errors fall ever more slowly once they fall, so this pace flatters the run. Before they fall it says nothing.
    """
    if run.give_up_epochs is None or state.epoch < run.give_up_epochs:
        return False
    guess = 1 - 1 / state.classes
    errors = [guess] + [row["top1"] for row in state.history if row["split"] == "train"]
    if errors[-1] > LIKE_A_GUESS * guess:
        losses = [row["loss"] for row in state.history if row["split"] == "train"]
        burst = min(losses[-run.give_up_epochs :]) > BURST * math.log(state.classes)
        return burst or state.epoch >= PLATEAU * run.give_up_epochs
    steady = (errors[-1 - run.give_up_epochs] - errors[-1]) / run.give_up_epochs
    pace = max(steady, errors[-2] - errors[-1])
    return errors[-1] - pace * (run.epochs - state.epoch) > run.target_error


# ------------------------------------------------------------------------------------------------------- the results


def _write_summary(run, stores, pictures, state: _State) -> None:
    """The final errors by views, and where they come from. Written last: it marks a run as finished."""
    names = VIEWS if pictures["val"].border else ["1 view"]
    last = state.history[-2]
    metrics = {
        "train": {"as trained": {k: last[k] for k in ("loss", "top1", "top5")}},
        "val": {name: evaluate(state.net, pictures["val"], name) for name in names},
    }
    if not state.ended:
        warn_of_burst(metrics["val"]["1 view"]["loss"], state.classes)
    restore_tables(run.folder, state)  # those of a run that was taken up at its end may be damaged
    timing = pd.DataFrame(state.timing, columns=["seconds", "images_per_second"])
    write_json(
        run.folder / "summary.json",
        {
            "metrics": metrics,
            "epochs": state.epoch,
            "ended": state.ended or "schedule",
            "images": {split: len(store) for split, store in stores.items()},
            "classes": state.classes,
            "parameters": sum(p.numel() for p in state.net.parameters()),
            "seconds": timing["seconds"].sum(),
            "images_per_second": timing["images_per_second"].median() if len(timing) else None,
            "seed": run.seed,
            "device": run.device,
            "dataset": fingerprints(stores),
            "lossy_pictures": stores["train"].meta.get("lossy", False),
            "module": "alexnet_lib.cifar_training",
            **provenance(),
        },
    )


def main(arguments=None) -> None:
    """Train from a configuration file, the same as a notebook's call."""
    parser = argparse.ArgumentParser(
        "python -m alexnet_lib.cifar_training", description=(__doc__ or " ").splitlines()[0]
    )
    parser.add_argument("config", type=Path, help="a JSON file with the fields of CifarSettings")
    given = parser.parse_args(arguments)
    try:
        record = train_cifar(check(CifarSettings, read_json(given.config)))
    except (ValueError, OSError, ArithmeticError, JobFailed) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: stopped; the same command goes on from the last epoch\n")
    print(json.dumps(record.summary["metrics"], indent=1))
    print(record.folder)


if __name__ == "__main__":
    main()
