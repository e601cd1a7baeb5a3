"""§5, training: where a run is, between two steps, and how that is written down and taken up again."""

import json
from collections import deque
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .architecture import alexnet
from .columns import own_column, own_part, whole
from .inception import googlenet
from .learning import PaperSGD, PlateauRule, averaging, initialise, parameter_groups, patience_for, recipe
from .normalization import LocalResponseNorm
from .runs.folder import data_differences, require_fit
from .runs.launch import ALONE, Job
from .runs.records import are_finite, load_checkpoint, read_timing, refuse_differences, save_checkpoint
from .runs.settings import TrainSettings, net_changes, net_skeleton

STALL_WINDOW = 50
FORMAT = 2  # of checkpoints; those of another cannot be gone on with
PLAIN_STATE = ("epoch", "step", "sums", "stopped", "history")


def build_net(run: TrainSettings, classes: int) -> nn.Module:
    """The untrained net of a run, on its device."""
    build = googlenet if run.net == "googlenet" else partial(alexnet, run.net)
    net = build(classes, seed=run.seed, **net_changes(run))
    net = initialise(net, run.initialisation, run.seed)
    for layer in net.children():
        if isinstance(layer, LocalResponseNorm):
            layer.compiled = run.speed == "fast"
    return net.to(run.device, memory_format=torch.channels_last)


def has_finite_weights(net: nn.Module, job: Job = ALONE) -> bool:
    """Whether all weights of a net are numbers, those of the job's other processes included."""
    finite = are_finite(net.parameters())
    if job.mesh is not None:
        finite = finite.int()
        dist.all_reduce(finite, dist.ReduceOp.MIN)
    return bool(finite)


def velocity_of(net: nn.Module, optimizer: PaperSGD) -> dict[str, Tensor]:
    """The optimiser's buffers by the names of the net's parameters."""
    return {name: optimizer.state[p]["momentum_buffer"] for name, p in net.named_parameters() if p in optimizer.state}


class RunState:
    """Where a run is: its weights, velocities and rule, the epoch and step, and the history that it leaves.

    Each process of a job has its column's part of the tensors. A checkpoint holds the whole ones, and is written and
    read by the first process, so that it goes on in any layout. data: the fingerprints of its pictures by split.
    """

    def __init__(self, run: TrainSettings, classes: int, job: Job = ALONE, data: dict[str, str] | None = None):
        self.job, self.net, self.data = job, own_column(build_net(run, classes), job), data or {}
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
        progress = job.as_leader_says(None if saved is None else saved.get("progress", "{}"))
        if progress is not None:
            known = json.loads(progress)
            if known.get("format") != FORMAT or not {*PLAIN_STATE, "rates", "rule"} <= known.keys():
                raise ValueError(
                    f"the checkpoint in {run.folder} was written by another version of this library, which alone can "
                    "go on with it; remove that folder to begin anew"
                )
            refuse_differences(run.folder, data_differences(known.get("data"), self.data))
            if job.leader:
                whole_net = net_skeleton(run, classes).state_dict()
                for kind in saved.keys() - {"progress"}:
                    require_fit(run.folder, saved[kind], whole_net, every=kind == "net")
            self._load(progress, saved)
            if job.leader:
                self.timing = read_timing(run.folder, self.epoch).to_dict("records")
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
        more = {"rates": rates, "rule": self.rule.state_dict(), "averaged": averaged, "format": FORMAT}
        more["data"] = self.data
        progress = json.dumps(plain | more)
        if self.job.replica == 0:
            tensors = {"net": self.net.state_dict(), "velocity": velocity_of(self.net, self.optimizer)}
            if self.answering is not self.net:
                tensors["averaged"] = self.answering.state_dict()
            tensors = {kind: whole(own, self.job) for kind, own in tensors.items()}
            if self.job.leader:
                save_checkpoint(folder, {**tensors, "progress": progress})

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
