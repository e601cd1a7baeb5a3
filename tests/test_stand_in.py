"""What only a GPU could find, on a stand-in for one: copies that come late, captures that fail, and which card it is.

On the stand-in nothing that is given to a stream is done before somebody waits for it; then streams take turns in an
order drawn from a seed, as far as their events allow. What does not wait for what it needs gets other bytes.
"""

import dataclasses
import subprocess
import sys
from collections import deque
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet_lib import PaperSGD, cifar_net, recipe, skeleton, training
from alexnet_lib.architecture import NETS
from alexnet_lib.cifar_nets import NETS as CIFAR_NETS
from alexnet_lib.cifar_nets import cifar_parameter_groups
from alexnet_lib.data import reading
from alexnet_lib.data.reading import whole_pictures
from alexnet_lib.dataset import load_dataset
from alexnet_lib.learning import parameter_groups
from alexnet_lib.paths import REPOSITORY
from alexnet_lib.runs import fast, job, settings, step
from tests import small_runs
from tests.small_runs import NAME


class Card:
    """Streams of work that is done late."""

    def __init__(self, seed: int):
        self.generator, self.streams, self.now = np.random.default_rng(seed), [], None
        self.now = self.new_stream()

    def new_stream(self, device=None):
        stream = SimpleNamespace(waiting=deque())
        stream.wait_event = lambda event: stream.waiting.append((None, event.marks and event.marks[-1]))
        self.streams.append(stream)
        return stream

    def event(self):
        event = SimpleNamespace(marks=[])

        def record(stream=None):
            event.marks.append(mark := SimpleNamespace(reached=False))
            (stream or self.now).waiting.append((lambda: setattr(mark, "reached", True), None))

        def synchronize():
            while event.marks and not event.marks[-1].reached:
                self.turn()

        event.record, event.synchronize = record, synchronize
        return event

    @contextmanager
    def stream(self, stream):
        before, self.now = self.now, stream
        yield
        self.now = before

    def turn(self) -> bool:
        """Do one thing in one of the streams that may go on; False if there is nothing left."""
        able = [s for s in self.streams if s.waiting and (not s.waiting[0][1] or s.waiting[0][1].reached)]
        if able:
            work, _ = able[self.generator.integers(len(able))].waiting.popleft()
            if work is not None:
                work()
        return bool(able)

    def finish(self) -> None:
        while self.turn():
            pass
        assert not any(stream.waiting for stream in self.streams)


@pytest.fixture(params=range(5))
def card(request, monkeypatch):
    """A card "cuda:0" whose tensors lie in the memory of the CPU."""
    card, copy, empty, empty_like = Card(request.param), torch.Tensor.copy_, torch.empty, torch.empty_like

    def late_copy(to, source, non_blocking=False):
        return card.now.waiting.append((lambda: copy(to, source), None)) if non_blocking else copy(to, source)

    def full_of_noise(tensor):
        return tensor.random_(0, 256)

    monkeypatch.setattr(torch.cuda, "Stream", card.new_stream)
    monkeypatch.setattr(torch.cuda, "Event", card.event)
    monkeypatch.setattr(torch.cuda, "stream", card.stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: card.now)
    monkeypatch.setattr(torch.Tensor, "copy_", late_copy)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **kind: full_of_noise(empty(*shape, **kind)))
    monkeypatch.setattr(torch, "empty_like", lambda x, device=None: full_of_noise(empty_like(x)))
    return card


def seen(card, images, parts, path):
    """What a net sees that looks at the pictures in its own time."""
    found = {}
    for number, pixels in enumerate(whole_pictures(images, parts, "cuda:0", path, threads=2)):
        look = partial(lambda number, pixels: found.update({number: pixels.clone()}), number, pixels)
        card.now.waiting.append((look, None))
        for _ in range(card.generator.integers(8)):
            card.turn()
    card.finish()
    return [found[number] for number in range(len(parts))]


def test_every_picture_is_there_when_a_net_looks_at_it(place, card):
    store = load_dataset(NAME)["train"]
    order = np.random.default_rng(1).permutation(48)
    parts = [order[:3], *np.array_split(order[3:], 11)]  # the first is smaller, so that its memory is taken anew
    for part, pixels in zip(parts, seen(card, store.images, parts, store.folder / "images.npy"), strict=True):
        assert np.array_equal(pixels, store.images[part])


@pytest.mark.parametrize("forgotten", ["copied.synchronize", "wait_event(self.free)", "wait_event(self.copied)"])
def test_the_stand_in_notices_each_thing_that_is_not_waited_for(place, card, monkeypatch, forgotten):
    """Of the three that the ring waits for; without any of them some order gives other bytes."""
    made = reading._Slot.__init__

    class Deaf(list):
        append = list.count  # which adds nothing

    def without(self, *arguments):
        made(self, *arguments)
        event = self.free if "free" in forgotten else self.copied
        if "synchronize" in forgotten:
            event.synchronize = lambda: None
        else:
            event.marks = Deaf()

    monkeypatch.setattr(reading._Slot, "__init__", without)
    store, wrong = load_dataset(NAME)["train"], 0
    parts = np.array_split(np.random.default_rng(1).permutation(48), 12)
    for seed in range(10):
        card.generator = np.random.default_rng([seed, 7])
        found = seen(card, store.images, parts, store.folder / "images.npy")
        wrong += not all(np.array_equal(x, store.images[part]) for part, x in zip(parts, found, strict=True))
    assert wrong


# -------------------------------------------------------------------------------------------------------- as one graph


class Generator(SimpleNamespace):
    """Stands in for a GPU's generator, whose state graphs share."""

    def __init__(self, device=None):
        super().__init__(seed=0)

    def manual_seed(self, seed):
        self.seed = seed

    def initial_seed(self):
        return self.seed

    def graphsafe_set_state(self, other):
        self.seed, self.told = other.seed, "a state of its own"


@pytest.fixture
def captures(monkeypatch):
    """What torch is told of captures, in order; a replay is noted, too."""
    told, generator = [], Generator()
    generator.manual_seed(77)

    class Graph:
        def replay(self):
            told.append("replayed")

    @contextmanager
    def graph(graph, **options):
        told.append(options)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: ("stream of", device))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(told.append(device)))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, len(told)))
    monkeypatch.setattr(torch.cuda, "default_generators", (None, generator))
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *ended: told.append(ended), raising=False)
    return told, generator


def test_the_graphs_of_a_run_share_a_stream_and_memory_on_their_card(captures):
    told, _ = captures
    device, results = torch.device("cuda", 1), [torch.zeros(1), torch.ones(1)]
    capture = step._Captured(device)
    replays = [capture(lambda result=result: result) for result in results]
    assert [replay() is result for replay, result in zip(replays, results, strict=True)] == [True, True]
    alone = {"pool": (0, 0), "stream": ("stream of", device), "capture_error_mode": "thread_local"}
    assert told == [device, alone, device, alone, "replayed", "replayed"]


@pytest.mark.parametrize("ended", [False, True])
def test_a_capture_that_fails_is_forgotten(captures, monkeypatch, ended):
    """Else its memory would wait for the end, and the next mask would fail: the step is taken with its own seed."""
    told, generator = captures

    def fails():
        raise torch.AcceleratorError("operation not permitted when stream is capturing")

    def end(*arguments):
        told.append(arguments)
        if ended:
            raise RuntimeError("not currently recording to mempool_id")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end, raising=False)
    with pytest.raises(torch.AcceleratorError, match="operation not permitted"):
        step._Captured(torch.device("cuda", 1))(fails)
    assert told[-1] == (1, (0, 0)) and (generator.seed, generator.told) == (77, "a state of its own")


# ------------------------------------------------------------------------------------------------------ how it computes


HOW = """
import io, os, sys
from contextlib import redirect_stderr
from types import SimpleNamespace
import torch

def in_a_fork(name, work):
    if not os.fork():
        work()
        print(name, flush=True)
        os._exit(0)
    os.wait()

def tf32(asked):
    def parts():
        backends = torch.backends
        return [p.fp32_precision for p in (backends, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)]

    asked()
    before = parts()
    with arithmetic_of(SimpleNamespace(speed="repeatable", device="cuda:0", precision="fp32")):
        within = parts()[1:], torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert within == (["ieee"] * 3, False, False), within
    assert parts() == before, (before, parts())

def workspace(used, told):
    torch.cuda.is_initialized = lambda: used
    os.environ |= {"CUBLAS_WORKSPACE_CONFIG": told} if told else {}
    from alexnet_lib.runs.step import arithmetic_of
    run = SimpleNamespace(speed="repeatable", device="cuda:0", precision="fp32")
    with redirect_stderr(io.StringIO()) as said, arithmetic_of(run):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (told or ":4096:8")
    assert ("CUDA was in use before alexnet_lib was imported" in said.getvalue()) == (used and not told)

for used in (True, False):
    for told in ("", ":16:8"):
        in_a_fork(f"workspace {used} {told}", lambda: workspace(used, told))
from alexnet_lib.runs.step import arithmetic_of
for name, asked in {
    "as torch starts": lambda: None,
    "the older names": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "the newer names": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "everywhere": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "nowhere": lambda: setattr(torch.backends, "fp32_precision", "ieee"),
}.items():
    in_a_fork(name, lambda: tf32(asked))
"""


def test_however_torch_was_set_a_repeatable_run_has_no_tf32_and_says_what_came_too_late(monkeypatch):
    """In processes of their own, for torch may not be able to go back; after the run it is as it was."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    done = subprocess.run([sys.executable, "-c", HOW], cwd=REPOSITORY, capture_output=True, text=True)
    held = [f"workspace {used} {told}".strip() for used in (True, False) for told in ("", ":16:8")]
    held += ["as torch starts", "the older names", "high", "the newer names", "everywhere", "nowhere"]
    assert [line.strip() for line in done.stdout.splitlines()] == held, done.stderr


def test_fast_leaves_no_trace_either():
    before = torch.backends.cudnn.benchmark
    with step.arithmetic_of(SimpleNamespace(speed="fast", device="cuda:0", precision="fp32")):
        assert torch.backends.cudnn.benchmark and not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark == before


# ------------------------------------------------------------------------------------------------------- which card


def test_a_run_is_on_its_card_while_it_trains(place, monkeypatch):
    """Some of torch asks for "cuda", which is the current one."""
    entered, left = [], []

    @contextmanager
    def device(name):
        entered.append(name)
        yield
        left.append(name)

    def look(run, *_):
        assert (entered, left) == (["cuda:1"], [])

    store = load_dataset(NAME)
    run = dataclasses.replace(settings.resolve(small_runs.settings(), store["train"]), device="cuda:1")
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    for name in ("RunState", "run_epochs", "_write_summary"):
        monkeypatch.setattr(training, name, look)
    monkeypatch.setattr(training, "fits_on", lambda *_: False)
    assert training._train_here(run, store, job.ALONE, None) and left == ["cuda:1"]


def test_bfloat16_is_asked_of_the_card_that_computes(monkeypatch):
    kinds = {"cuda:0": (7, 5), "cuda:1": (9, 0)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", kinds.__getitem__)
    assert settings.computes_in_bf16("cuda:1") and not settings.computes_in_bf16("cuda:0")


def test_a_driver_that_is_too_old_leaves_the_processor(monkeypatch):
    """NVML counts the GPUs, but whatever asks torch about one fails."""

    def too_old(number):
        raise RuntimeError("The NVIDIA driver on your system is too old")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", too_old)
    assert job.usable_gpus() == [] and settings.find_device("cpu") == "cpu"
    with pytest.raises(ValueError, match="device = 'cuda:0'; on this machine are auto, "):
        settings.find_device("cuda")


@pytest.mark.parametrize(("asked", "processes", "taken"), [("cuda:3", 1, 3), ("cuda:3", 2, 1), ("auto", 1, 1)])
def test_a_job_takes_the_card_that_is_asked_for(place, monkeypatch, asked, processes, taken):
    monkeypatch.setattr(job, "usable_gpus", lambda: [1, 3])
    found = []
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    monkeypatch.setattr(job.dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(job.dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(job, "init_device_mesh", lambda *_, **__: SimpleNamespace(get_coordinate=lambda: (0, 0)))
    last, count = str(processes - 1), str(processes)
    own = {"ALEXNET_JOB": str(place), "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "LOCAL_RANK": last, "RANK": last}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    with job.join(device=asked) as joined:
        assert joined.device == f"cuda:{taken}" and found == [torch.device("cuda", taken)]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    if asked != "auto":
        with (
            pytest.raises(ValueError, match="3 processes on this machine, and 2 GPUs for them"),
            job.join(device=asked),
        ):
            pass


# ------------------------------------------------------------------------------------------- what a graph can't hold


class Waits(TorchDispatchMode):
    """Notes what a graph can't hold: numbers that the CPU asks for or hands over, and sizes that depend on them."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # the update, of which torch knows no shapes
        result = None if function is torch.ops.aten._fused_sgd_.tensor_lr else function(*args, **kwargs or {})
        devices = {x.device.type for x in pytree.tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)}
        if "local_scalar" in str(function) or "nonzero" in str(function) or len(devices) > 1:
            self.found.append(str(function))
        return result


def on_a_card(net, kind="cuda:0"):
    """A net whose weights are on a GPU that nobody has, without memory."""
    for layer in net.modules():
        for name, weight in list(layer.named_parameters(recurse=False)):
            empty = torch.empty(weight.shape, device=kind)
            empty = empty.contiguous(memory_format=torch.channels_last) if empty.dim() == 4 else empty
            setattr(layer, name, torch.nn.Parameter(empty))
    return net


@contextmanager
def autocast(kind, dtype=torch.bfloat16, enabled=True):
    """torch's own looks first whether there is such a device."""
    before = torch.is_autocast_enabled(kind)
    torch.set_autocast_enabled(kind, enabled)
    torch.set_autocast_dtype(kind, dtype)
    torch.autocast_increment_nesting()
    yield
    if not torch.autocast_decrement_nesting():
        torch.clear_autocast_cache()
    torch.set_autocast_enabled(kind, before)


def slopes(loss):
    """In place of a backward pass, which wants a GPU that is there."""
    for parameter in slopes.net.parameters():
        parameter.grad = torch.empty_like(parameter)


@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "bf16") for name in NETS), ("paper", "fp32"), *((n, "fp32") for n in CIFAR_NETS)]
)
def test_a_step_on_a_gpu_waits_for_nothing(monkeypatch, name, precision):
    """By the shapes and devices of its tensors alone; the kernel of three has a pooling of the same shape here."""
    pooled = []
    monkeypatch.setattr(fast, "pools_at_once", lambda device, maps: True)
    monkeypatch.setattr(fast, "pooled_response", lambda x, row: pooled.append(x.dtype) or torch.nn.MaxPool2d(3, 2)(x))
    monkeypatch.setattr(torch.Tensor, "backward", slopes)
    monkeypatch.setattr(torch, "autocast", autocast)
    net = cifar_net(name) if name in CIFAR_NETS else skeleton(name)
    side = CIFAR_NETS[name].image_size if name in CIFAR_NETS else 224
    groups = None if name in CIFAR_NETS else parameter_groups
    with FakeTensorMode(), Waits() as waits:
        slopes.net = on_a_card(net)
        x = torch.empty(128, side, side, 3, device="cuda:0").permute(0, 3, 1, 2)
        labels = torch.empty(128, dtype=torch.int64, device="cuda:0")
        given = groups(net, recipe("code2012")) if groups else cifar_parameter_groups(net, name)
        optimizer = PaperSGD(given, 0.01)
        forward = net if name in CIFAR_NETS else fast.Fast(net)
        state = SimpleNamespace(forward=forward, optimizer=optimizer, job=job.Job(batch=128))
        run = SimpleNamespace(precision=precision, as_recorded=lambda loss, images: loss / images * images)
        for _ in range(2):
            with optimizer.fixed_rates():
                waits.found.clear()
                measured = step._update(run, state, x, labels)
    assert waits.found == [] and (measured.device.type, measured.shape) == ("cuda", (4,))
    at_once = precision == "bf16" and NETS[name].lrn is not None
    assert set(pooled) == ({torch.bfloat16} if at_once else set())
