"""§5, one update of a net; on a GPU, where launching its kernels takes longer than their work, all of them at once."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import IN_TIME, WORKSPACE
from ..evaluation import rank_credit
from ..inception import HEAD_WEIGHT, each_output
from ..learning import PaperSGD
from .bfloat16 import arithmetic_in

EAGER_STEPS = 12  # before a graph: by then cuDNN has chosen its ways, and what is compiled is


def train_step(run, state, x: Tensor, labels: Tensor) -> Tensor:
    """One update (§5); returns its sums of loss, top-1 and top-5 credit, and their number, still on the device."""
    _seed(x.device, run.seed, state.epoch, state.step)  # of the dropout masks
    if state.replays is None:
        return _update(run, state, x, labels)
    return state.replays(lambda *batch: _update(run, state, *batch), x, labels)


def _update(run, state, x: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=run.precision == "bf16"):
        logits, *auxiliary = each_output(state.forward(x))
    logits = logits.float()
    loss, job = F.cross_entropy(logits, labels, reduction="sum"), state.job
    extra = [HEAD_WEIGHT * F.cross_entropy(other.float(), labels, reduction="sum") for other in auxiliary]

    state.optimizer.zero_grad()
    (sum(extra, loss) * (job.replicas / job.batch)).backward()  # the replicas' gradients are averaged
    state.optimizer.step()

    with torch.no_grad():
        credit = [rank_credit(logits, labels, k).sum() for k in (1, 5)]
        count = loss.new_full((), len(labels))  # not from a number on the CPU, which no graph can fetch
        return torch.stack([run.as_recorded(loss.detach(), len(labels)), *credit, count])


def _seed(device: torch.device, *parts: int) -> None:
    """Seed a device's default generator; torch.manual_seed would seed every device's, which takes as long as a step."""
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index]
    else:
        generator = torch.mps._get_default_mps_generator() if device.type == "mps" else torch.default_generator
    generator.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1))


@contextmanager
def arithmetic_of(run) -> Iterator[None]:
    """How a device computes during a run: on a GPU "repeatable" has the same bits again, wherever torch knows how.

    That is without TF32. cuBLAS also wants CUBLAS_WORKSPACE_CONFIG, which the package sets when it is imported. An
    operation of which torch knows no repeatable way warns. A CPU without units for bfloat16: see `runs.bfloat16`.
    """
    cudnn, memory = torch.backends.cudnn, torch.utils.deterministic
    chosen = cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    repeatable = run.device.startswith("cuda") and run.speed != "fast"
    cudnn.benchmark = run.speed == "fast"
    try:
        with arithmetic_in(run.device, run.precision), _without_tf32() if repeatable else nullcontext():
            if repeatable:
                if not IN_TIME:
                    warnings.warn(
                        f"CUDA was in use before alexnet_lib was imported, so cuBLAS may not know of {WORKSPACE}, and "
                        f"products may differ when repeated: import it first, or set {WORKSPACE}=:4096:8 before",
                        stacklevel=3,
                    )
                torch.use_deterministic_algorithms(True, warn_only=True)
                cudnn.deterministic, memory.fill_uninitialized_memory = True, False  # nothing reads what isn't written
            yield
    finally:
        if repeatable:  # the call loads torch's compiler: seconds that a run on its way out may not have
            torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory = chosen


@contextmanager
def _without_tf32() -> Iterator[None]:
    """No TF32 in products and convolutions; afterwards it is as it was.

    torch has two sets of names for it. Whoever has used the newer ones can't read the older ones any more, and what
    reads the older ones, as torch's compiler does, wants both to say the same.
    """
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    newer = [(part, part.fp32_precision) for part in (cuda, cudnn.conv, cudnn.rnn)]
    older = []
    for part in (cuda, cudnn):
        with suppress(RuntimeError):
            older.append((part, part.allow_tf32))
        part.allow_tf32 = False
    for part, _ in newer:  # the older names leave them to torch.backends.fp32_precision
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, allowed in older:
            part.allow_tf32 = allowed
        for part, precision in newer:
            part.fp32_precision = precision


class Replays:
    """The updates of a run as CUDA graphs, one for each size of a batch and each set of groups that learn.

    The first EAGER_STEPS of a kind are taken as they are. What changes from step to step is in tensors that a graph
    reads: the batch, the rates (`PaperSGD.fixed_rates`), and the seed of the masks, which torch hands to its graphs. A
    step that cannot be captured is taken as it is from then on, and `reason` says why.

    Args:
        optimizer: of the net that is trained.
        capture: from a function without arguments, another that does the same again and returns the same tensor.
    """

    def __init__(self, optimizer: PaperSGD, capture: Callable | None = None):
        self.optimizer, self.reason = optimizer, ""
        self.capture = capture or _Captured(optimizer.param_groups[0]["params"][0].device)
        self.seen: Counter = Counter()
        self.ready: dict = {}

    def __call__(self, update: Callable[[Tensor, Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
        kind = x.shape, x.stride(), tuple(group["lr"] != 0 for group in self.optimizer.param_groups)
        self.seen[kind] += 1
        with self.optimizer.fixed_rates():  # in every step, for a rate on the CPU has more digits
            if self.reason or self.seen[kind] <= EAGER_STEPS or not self._is_ready(kind, update, x, labels):
                return update(x, labels)
            own_x, own_labels, replay = self.ready[kind]
            own_x.copy_(x)
            own_labels.copy_(labels)
            return replay().clone()

    def _is_ready(self, kind, update, x: Tensor, labels: Tensor) -> bool:
        """Whether there is a graph of this kind; the first time it is captured."""
        if kind not in self.ready:
            given = torch.empty_like(x), torch.empty_like(labels)
            try:
                self.ready[kind] = *given, self.capture(lambda: update(*given))
            except RuntimeError as error:  # which holds the tensors of the attempt until this block ends
                self.reason = f"{type(error).__name__}: {error}".splitlines()[0]
                warnings.warn(f"a step is no CUDA graph here, so small nets take longer: {self.reason}", stacklevel=4)
        return kind in self.ready


class _Captured:
    """Captures on a GPU. All graphs of a run share their memory, for no two of them run at the same time."""

    def __init__(self, device: torch.device):
        self.device, self.pool, self.stream = device, None, None

    def __call__(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        self.stream = self.stream or torch.cuda.Stream(self.device)  # the default one is the current device's
        alone = {"pool": self.pool, "stream": self.stream, "capture_error_mode": "thread_local"}  # others make batches
        try:
            with torch.cuda.device(self.device), torch.cuda.graph(graph, **alone):
                result = work()
        except RuntimeError:
            self._forget()
            raise

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

    def _forget(self) -> None:
        """Have torch forget a capture that has failed.

        Otherwise its memory waits for the end of that capture, and some versions refuse random numbers until then. No
        graph is replayed any more, so none misses the generator's former state.
        """
        with suppress(RuntimeError, AttributeError):  # it had come to its end, or torch knows another way
            torch._C._cuda_endAllocateToPool(self.device.index, self.pool)
        generator = torch.cuda.default_generators[self.device.index]
        fresh = torch.Generator(self.device)
        fresh.manual_seed(generator.initial_seed())
        generator.graphsafe_set_state(fresh)
