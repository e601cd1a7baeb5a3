"""§3.2 and §5: a process's place in a job of several, columns × replicas.

The processes form a grid. Those of a row are the columns of one replica of the net: they see the same images and own
different channels. Those of a column own the same channels and see different images of every batch; their gradients
are averaged by torch's DistributedDataParallel.
"""

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ..dataset import is_prepared
from .processes import FOLDER

PATIENCE = timedelta(minutes=5)  # a process that is silent for longer is taken for dead
POLL_SECONDS = 0.2


@dataclass
class Job:
    """A process's place in a job of replicas × columns processes. `batch`, of all replicas, is set at each step."""

    replica: int = 0
    replicas: int = 1
    column: int = 0
    columns: int = 1
    device: str = "cpu"
    mesh: DeviceMesh | None = None
    batch: int = 0

    @property
    def leader(self) -> bool:
        """The one process that writes and shows anything."""
        return self.replica == 0 and self.column == 0

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.replicas * self.columns == 1

    @property
    def images_of_batch(self) -> slice:
        """Which images of the whole batch are this replica's."""
        return self.share(self.batch)

    def share(self, count: int) -> slice:
        """This replica's part of `count` things: shares differ by at most one."""
        return slice(self.replica * count // self.replicas, (self.replica + 1) * count // self.replicas)

    def own_part(self, count: int) -> slice:
        """Which of `count` images of its replica this column makes ready for both."""
        return slice(self.column * count // self.columns, (self.column + 1) * count // self.columns)

    def every_part(self, values: Tensor, count: int) -> Tensor:
        """The `count` images of a replica, uint8 on the device, from the parts that its columns have made ready."""
        if self.columns == 1:
            return values
        rows = values.new_zeros((count, *values.shape[1:]))
        rows[self.own_part(count)] = values
        dist.all_reduce(rows, group=self.group("column"))
        return rows

    def group(self, dimension: str):
        """The processes of this one's row ("column") or column ("replica") of the grid."""
        return self.mesh.get_group(dimension)

    def synchronised(self, net: nn.Module) -> nn.Module:
        """A net whose gradients are averaged over the replicas."""
        return net if self.replicas == 1 else DistributedDataParallel(net, process_group=self.group("replica"))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the replicas, for all of them."""
        if self.replicas == 1:
            return values
        values = values.to(self.device)
        dist.all_reduce(values, group=self.group("replica"))
        return values

    def share_statistics(self, net: nn.Module) -> None:
        """Give the first replica's buffers to all: each has statistics of its own images, and the first's are saved."""
        if self.replicas > 1:
            for buffer in net.buffers():
                dist.broadcast(buffer, group=self.group("replica"), group_src=0)

    def every_image(self, values: Tensor) -> Tensor:
        """The rows of all replicas' images, (batch, ...), from those of each."""
        rows = values.new_zeros((self.batch, *values.shape[1:]))
        rows[self.images_of_batch] = values
        return self.sum(rows)

    def as_leader_says(self, value):
        """The leader's value, for all."""
        if self.mesh is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device(self.device))
        return box[0]

    def leaders_tensor(self, tensor: Tensor | None, shape, dtype=torch.float32) -> Tensor:
        """A tensor of the leader's, for all; the others give None."""
        if self.mesh is None:
            return tensor
        here = torch.empty(shape, dtype=dtype) if tensor is None else tensor
        here = here.to(self.device).contiguous()
        dist.broadcast(here, src=0)
        return here


ALONE = Job()


class JobFailed(RuntimeError):
    """A process of a job ended before its work was done."""


def inside_job() -> bool:
    """Was this process started as one of several, by `torchrun` here or by PyTorch's of that name?"""
    return FOLDER in os.environ or "TORCHELASTIC_RUN_ID" in os.environ


def wait_until_prepared(dataset: str) -> None:
    """On every machine of a job the first process prepares the data; the others wait for it here."""
    while inside_job() and os.environ["LOCAL_RANK"] != "0" and not is_prepared(dataset):
        time.sleep(POLL_SECONDS)


def usable_gpus() -> list[int]:
    """The numbers of the GPUs that the installed torch was built for; of others, a warning says why they are not.

    Of a driver that is older than torch wants, torch itself warns. It counts such GPUs, but can't be asked about them.
    """
    count = torch.cuda.device_count()
    return [number for number in range(count) if torch.cuda.is_available() and _has_kernels(number)]


def _has_kernels(number: int) -> bool:
    major, minor = torch.cuda.get_device_capability(number)
    entries = [entry.rstrip("af").rpartition("_") for entry in torch.cuda.get_arch_list()]
    built = [(kind, (int(version[:-1]), int(version[-1]))) for kind, _, version in entries if kind in ("sm", "compute")]
    if not built:  # of another maker, or an unusual build that names none
        return True
    for kind, of in built:
        if kind == "compute" and of <= (major, minor) or kind == "sm" and of[0] == major and of[1] <= minor:
            return True
    warnings.warn(
        f"cuda:{number} ({torch.cuda.get_device_name(number)}, compute capability {major}.{minor}) is left out: the "
        f"installed torch {torch.__version__} has kernels for {', '.join(torch.cuda.get_arch_list())} alone",
        stacklevel=4,
    )
    return False


@contextmanager
def join(columns: int = 1, device: str = "auto") -> Iterator[Job]:
    """Join the job that this process was started for, or work alone if there is none.

    NCCL carries the messages between GPUs and gloo those between CPU processes.

    Args:
        columns: how many processes share one replica of the net; neighbours by rank, so that they are on one machine.
        device: "cpu" for processes without GPUs; "cuda:N" for one GPU, from number N on, for each process of a
            machine; "auto" for GPUs where there are as many.

    Raises:
        ValueError: processes that do not divide into columns, or for which there are not enough GPUs.
    """
    if not inside_job():
        yield Job(device="cpu" if device == "auto" else device)
        return
    processes = int(os.environ["WORLD_SIZE"])
    if processes % columns:
        raise ValueError(f"{processes} processes do not divide into {columns} columns")
    local, beside = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    gpus = [] if device == "cpu" else sorted(usable_gpus(), key=lambda number: f"cuda:{number}" != device)
    if device.startswith("cuda") and len(gpus) < beside:
        raise ValueError(f"{beside} processes on this machine, and {len(gpus)} GPUs for them; start as many")
    here = None
    if len(gpus) >= beside:
        here = torch.device("cuda", gpus[local])
        torch.cuda.set_device(here)
    if FOLDER in os.environ:
        store, rank = dist.FileStore(f"{os.environ[FOLDER]}/store", processes), int(os.environ["RANK"])
    else:
        store, rank, _ = next(rendezvous("env://", timeout=PATIENCE))
        # after a restart, torchrun's store still holds the addresses of the processes that are gone
        store = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    options = {"store": store, "rank": rank, "world_size": processes, "timeout": PATIENCE, "device_id": here}
    dist.init_process_group("nccl" if here else "gloo", **options)
    grid = (processes // columns, columns)
    mesh = init_device_mesh("cuda" if here else "cpu", grid, mesh_dim_names=("replica", "column"))
    replica, column = mesh.get_coordinate()
    yield Job(replica, grid[0], column, columns, str(here or "cpu"), mesh)
    dist.destroy_process_group()  # not after an error: it would wait for those that are gone
