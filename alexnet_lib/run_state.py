"""§5, training: where a run is, between two steps, and how that is written down and taken up again."""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from .columns import own_column, own_part, whole
from .learning import PaperSGD, PlateauRule, patience_for
from .normalization import can_compile
from .runs.bfloat16 import emulates_bf16
from .runs.fast import Fast
from .runs.folder import require_fit
from .runs.job import ALONE, Job
from .runs.provenance import code_commit
from .runs.records import (
    DamagedCheckpoint,
    are_finite,
    data_differences,
    differences,
    load_checkpoint,
    read_timing,
    refuse_differences,
    save_checkpoint,
    what_decides,
)
from .runs.step import Replays

STALL_WINDOW = 50
FORMAT = 2  # of checkpoints; those of another cannot be continued
PLAIN_STATE = ("epoch", "step", "sums", "ended", "history", "warned", "recent")
# what older checkpoints lack, and what those of the CIFAR nets lack from before there was one trainer
NEWER = {"data": None, "warned": [], "recent": []}
OLDER = NEWER | {"format": FORMAT, "step": 0, "sums": [0.0, 0.0, 0.0], "rule": None, "averaged": 0}


def build_net(run, classes: int) -> nn.Module:
    """The untrained net of a run, on its device."""
    return run.new_net(classes)


def has_finite_weights(net: nn.Module, job: Job = ALONE) -> bool:
    """Whether all weights of a net are numbers, those of the job's other processes included."""
    finite = are_finite(net.parameters())
    if job.mesh is not None:
        finite = finite.int()
        dist.all_reduce(finite, dist.ReduceOp.MIN)
    return bool(finite)


class RunState:
    """Where a run is: its weights, velocities and rule, the epoch and step, and the history that it leaves.

    Each process of a job has its column's part of the tensors. A checkpoint holds the whole ones, and is written and
    read by the first process, so that it goes on in any layout. data: the fingerprints of its pictures by split.
    """

    def __init__(self, run, classes: int, job: Job = ALONE, data: dict[str, str] | None = None):
        self.run, self.job, self.classes, self.data = run, job, classes, data or {}
        code_commit()  # asked before the first step, for the record
        self.net = own_column(build_net(run, classes), job)
        self.optimizer = PaperSGD(run.parameter_groups(self.net), run.learning_rate, run.named.momentum)
        self.rule = PlateauRule(run.learning_rate, patience=patience_for(run.epochs))
        # Polyak's average of the weights (GoogLeNet's §6)
        self.average = torch.optim.swa_utils.AveragedModel(self.net) if run.named.average_last else None
        self.epoch = self.step = 0
        self.sums = [0.0, 0.0, 0.0]  # of loss and top-1 and top-5 credit, over the images of this epoch so far
        self.ended = ""  # why, where it was before the schedule did
        self.warned: list[str] = []  # of a net that learns nothing
        self.recent: list[float] = []  # losses of the last STALL_WINDOW steps
        self.history: list[dict] = []
        self.timing: list[dict] = []
        saved = load_checkpoint(run.folder) if job.leader else None
        progress = job.as_leader_says(None if saved is None else saved.get("progress", "{}"))
        if progress is not None:
            known = self._known(json.loads(progress))
            if job.leader:
                whole_net = run.skeleton(classes).state_dict()
                for kind in saved.keys() - {"progress"}:
                    require_fit(run.folder, saved[kind], whole_net, every=kind == "net")
            self._load(known, saved)
            if job.leader:
                self.timing = read_timing(run.folder, self.epoch).to_dict("records")
        on_gpu = run.device.startswith("cuda")
        self.forward = job.synchronised(Fast(self.net) if on_gpu and run.speed == "fast" else self.net)
        self.replays = Replays(self.optimizer) if on_gpu and job.alone else None

    @property
    def answering(self) -> nn.Module:
        """The net that is tested: with the averaged weights, where there are any."""
        return self.average.module if self.average is not None and self.average.n_averaged else self.net

    @property
    def emulated(self) -> bool:
        """Whether products in bfloat16 are multiplied in float32 and rounded."""
        return emulates_bf16(self.run.device, self.run.precision)

    @property
    def compiled(self) -> bool:
        """Whether its normalisation was compiled: as a part of a kernel in Triton, or else by torch.compile."""
        dtype = torch.bfloat16 if self.run.precision == "bf16" else torch.float32
        wanted = any(getattr(layer, "compiled", False) for layer in self.net.modules())
        by_kernel = any(getattr(layer, "normalises", False) for layer in self.forward.modules())
        if self.emulated:
            return False  # it steps aside
        return wanted and (by_kernel or can_compile(torch.device(self.run.device).type, dtype))

    def end_epoch(self, images: int, errors: dict, more: dict) -> None:
        """Write the epoch into the history, more columns of training included, and see whether the run ends with it."""
        loss, top1, top5 = (total / images for total in self.sums)
        rate = self.optimizer.param_groups[0]["lr"]
        self.epoch, self.step, self.sums = self.epoch + 1, 0, [0.0, 0.0, 0.0]
        measured = {"train": {"loss": loss, "top1": 1 - top1, "top5": 1 - top5} | more, "val": errors}
        for split, row in measured.items():
            self.history.append({"epoch": self.epoch, "split": split, **row, "learning_rate": rate})
        self.ended = self.run.ending(self.history, self.classes)
        if self.run.named.schedule == "plateau" and self.rule.step(errors["top1"]) is None:
            self.ended = "plateau"

    def save(self, folder: Path) -> None:
        """Write a checkpoint: tensors by the names of the layers, and the rest as text. All columns must call."""
        plain = {name: getattr(self, name) for name in PLAIN_STATE}
        rates = [{name: group[name] for name in ("lr", "buffer_lr")} for group in self.optimizer.param_groups]
        averaged = 0 if self.average is None else int(self.average.n_averaged)
        more = {"rates": rates, "rule": self.rule.state_dict(), "averaged": averaged, "format": FORMAT}
        progress = json.dumps(plain | more | {"data": self.data, "settings": what_decides(self.run)})
        if self.job.replica == 0:
            learned = {name: p for name, p in self.net.named_parameters() if p in self.optimizer.state}
            velocity = {name: self.optimizer.state[p]["momentum_buffer"] for name, p in learned.items()}
            tensors = {"net": self.net.state_dict(), "velocity": velocity}
            if self.answering is not self.net:
                tensors["averaged"] = self.answering.state_dict()
            tensors = {kind: whole(own, self.job) for kind, own in tensors.items()}
            if self.job.leader:
                save_checkpoint(folder, {**tensors, "progress": progress})

    def _known(self, progress: dict) -> dict:
        """The plain part of a checkpoint, made complete where it is older.

        Raises:
            ValueError: it is of another version, or of other data.
        """
        folder, cifar = self.run.folder, "ended" in progress and "format" not in progress
        if "stopped" in progress:
            progress["ended"] = "plateau" if progress.pop("stopped") else ""
        known = (OLDER if cifar else NEWER) | progress
        whole = {*PLAIN_STATE, "rates", "rule", "format"} <= known.keys() and len(known["history"]) == 2 * known[
            "epoch"
        ]
        if not whole or len(known["rates"]) != len(self.optimizer.param_groups):
            raise DamagedCheckpoint(f"the checkpoint in {folder} holds no state of a run; move or delete the folder")
        if known["format"] != FORMAT:
            raise ValueError(
                f"the checkpoint in {folder} was written by another version of this library, which alone can "
                "go on with it; remove that folder to begin anew"
            )
        unlike = data_differences(known["data"], self.data)
        if known.get("settings") is not None:
            unlike |= differences(known["settings"], what_decides(self.run))
        refuse_differences(folder, unlike)
        return known

    def _load(self, progress: dict, saved: dict | None) -> None:
        """Take one's part of a checkpoint that only the first process has read."""
        job, named = self.job, self.net.state_dict(keep_vars=True)
        averaged = {} if self.average is None else self.average.module.state_dict(keep_vars=True)
        kinds = job.as_leader_says(
            saved and {k: {n: t.shape for n, t in saved[k].items()} for k in saved if k != "progress"}
        )
        for kind, shapes in kinds.items():
            for name, shape in shapes.items():
                p = (averaged if kind == "averaged" else named)[name]
                part = own_part(job.leaders_tensor(saved and saved[kind][name], shape, p.dtype), job).to(p.device)
                if kind != "velocity":
                    p.data.copy_(part)
                else:
                    self.optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(part)
        if self.average is not None:
            self.average.n_averaged.fill_(progress["averaged"])
        for group, rates in zip(self.optimizer.param_groups, progress["rates"], strict=True):
            group.update(rates)
        if progress["rule"] is not None:
            self.rule.load_state_dict(progress["rule"])
        for name in PLAIN_STATE:
            setattr(self, name, progress[name])
