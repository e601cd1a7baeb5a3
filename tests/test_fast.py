"""§3 by other ways for a GPU: equal to the plain net, column by column, as blocks, as one kernel, as a graph."""

import dataclasses
import json
import os
import subprocess
import sys
import weakref
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alexnet_lib import LocalResponseNorm, PaperSGD, alexnet, run_state
from alexnet_lib.architecture import NETS
from alexnet_lib.dataset import load_dataset
from alexnet_lib.evaluation import mean_of
from alexnet_lib.loader import make_batches
from alexnet_lib.paths import REPOSITORY
from alexnet_lib.run_state import RunState
from alexnet_lib.runs import fast, optimizers, step
from alexnet_lib.runs.job import Job
from alexnet_lib.runs.settings import resolve
from tests.small_runs import NAME, prepare_place, settings


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("changes", [{}, {"geometry": "padding2"}, {"pooling": "run147"}, {"without": "conv4"}])
def test_the_fast_net_is_the_plain_one_in_float64(net, changes):
    plain = alexnet(net, 7, width=0.1, image_size=99, dropout=0.0, seed=0, **changes).double()
    x = torch.rand(2, 3, 99, 99, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 255 - 128
    found = []
    for forward in (plain, fast.Fast(plain)):
        plain.zero_grad()
        logits = forward(x)
        F.cross_entropy(logits, torch.tensor([1, 4])).backward()
        found.append([logits, *(p.grad.clone() for p in plain.parameters())])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("side", "kernel", "stride", "padding"), [(224, 11, 4, 0), (227, 11, 4, 0), (224, 11, 4, 2)])
def test_a_convolution_over_blocks_is_the_one_with_a_stride(side, kernel, stride, padding):
    layer = nn.Conv2d(3, 8, kernel, stride, padding)
    x = torch.rand(2, 3, side, side).contiguous(memory_format=torch.channels_last)
    (y,) = fast.convolved(layer, [x])
    torch.testing.assert_close(y, layer(x), rtol=1e-5, atol=1e-5)
    places = y.shape[-1]
    assert fast.as_blocks(x, layer).shape[1:] == (48, places + 2, places + 2)
    assert fast.kernels_of_blocks(layer.weight, stride).shape == (8, 48, 3, 3)


def test_columns_are_computed_from_tensors_of_their_own():
    net, seen = alexnet("paper", 7, width=0.1, image_size=99, seed=0), []
    parts = fast.convolved(net.conv1, [torch.rand(2, 3, 99, 99)], wanted=2)
    for layer in (net.conv2, net.conv3, net.conv4, net.conv5):
        seen.append(len(parts))
        parts = fast.convolved(layer, parts, wanted=2)
    assert seen == [2, 2, 2, 2] and [part.shape[1] for part in parts] == [net.conv5.out_channels // 2] * 2


def test_another_net_is_called_as_it_is():
    class Other(nn.Module):
        def forward(self, x):
            return x, x

    x = torch.ones(2)
    assert fast.Fast(Other())(x) == (x, x)


KERNELS = """
import json
import numpy as np
import torch
from torch import nn
from alexnet_lib import LocalResponseNorm, evaluation, loader
from alexnet_lib.augmentation import Views, cut_views
from alexnet_lib.dataset import load_dataset
from alexnet_lib.runs import fast
from alexnet_lib.runs.job import ALONE, Job
from alexnet_lib.runs.settings import resolve
from tests.small_runs import settings

worst = []
given = [(1, "paper", 5, 24), (0, "caffe", 4, 16), (1, "paper", 4, 5)]
for dtype, (relu, convention, n, maps) in [*((torch.float32, one) for one in given), (torch.bfloat16, given[0])]:
    torch.manual_seed(0)
    x = (30 * torch.randn(1, maps, 7, 8)).to(dtype).requires_grad_()
    row = [nn.ReLU()] * relu + [LocalResponseNorm(convention, n, alpha=0.01), nn.MaxPool2d(3, 2)]
    found = []
    for way in (lambda x: fast.pooled_response(x, row), nn.Sequential(*row)):
        y = way(x)
        found.append((y, *torch.autograd.grad(y, x, torch.ones_like(y).cumsum(3) / 4)))
    for own, plain in zip(*found):  # in bfloat16 units tie that do not in float32, and another one is the largest
        exact = dtype == torch.float32
        parts = [x.abs().float().max() if exact else x.abs().float().mean() for x in (own - plain, plain)]
        worst.append((parts[0] / parts[1]).item() / (1e-6 if exact else 0.1))

found, train, loaded = [], load_dataset("embedded")["train"], load_dataset("embedded")["train"]
train.__dict__["images"] = torch.from_numpy(train.images)

class Column(Job):  # one of two, which has cut everything
    own_part, every_part = lambda self, count: slice(count), lambda self, values, count: values

for changes in ({"recipe": "small"}, {"recipe": "paper"}, {"augmentation": "none"}, {"recipe": "googlenet"}, {}):
    run, job = resolve(settings(batch_size=5, **changes), train), ALONE if changes else Column(columns=2)
    run.__class__.input_divisor = 64.0 if changes == {"recipe": "paper"} else 1.0
    mean = evaluation.mean_of(train, run.image_size)
    inputs = []
    for at_once in (False, True):
        loader.cuts_at_once = evaluation.cuts_at_once = lambda device: at_once
        given = loaded if changes == {"recipe": "googlenet"} else train
        inputs.append([next(loader.make_batches(run, given, mean, 0, job=job))[0]])
        if run.input_divisor != 1:
            inputs[-1] += [evaluation.input_of(train.images[:1], mean, n, "cpu", 64.0) for n in (1, 9, 10)]
    found += [torch.equal(*pair) and pair[0].stride() == pair[1].stride() for pair in zip(*inputs)]

count, row = 1_281_167, 1_234_567  # ImageNet's, of which one begins at byte 242 billion
store = np.memmap("sparse", np.uint8, "w+", shape=(count, 256, 256, 3))
store[row] = np.random.default_rng(0).integers(0, 256, store[row].shape)
views = Views(*(np.array([given]) for given in (32, 7, True)))
nothing = torch.zeros(3, 224, 224)
far = evaluation.input_at_once(torch.from_numpy(store), [row], views, nothing)
found += [np.array_equal(far[0].permute(1, 2, 0), cut_views(store, views, 224, [row])[0])]
print(json.dumps({"worst": max(worst), "same": found}))
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """What the kernels give in Triton's interpreter, which needs no GPU; it is chosen when Triton is loaded."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        folder = prepare_place(tmp_path_factory.mktemp("kernels"), patch)
        environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-c", KERNELS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from alexnet_lib.runs import kernels

def compiled(kernel, constants, **types):
    types |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    print(triton.compile(source, target=GPUTarget("cuda", 90, 32)).metadata.shared)

numbers = dict.fromkeys("places height width out_height out_width".split(), "i32") | {"k": "fp32", "scale": "fp32"}
constants = {"MAPS": 128, "WIDTH": 128, "BEFORE": 2, "AFTER": 2, "RELU": True, "SIZE": kernels.BLOCK}
given = dict.fromkeys(("images", "places", "mean", "shifts", "x"), "*fp32") | {"images": "*u8", "places": "*i64"}
given |= dict.fromkeys(("count", "height", "width", "side"), "i32") | {"noise": "fp32", "divisor": "fp32"}
compiled(kernels._cut, {"SIZE": kernels.UNITS}, **given)
compiled(kernels._respond, constants, x="*bf16", y="*bf16", chosen="*u8", **numbers)
compiled(kernels._gradient, constants, x="*bf16", grad="*bf16", chosen="*u8", result="*bf16", **numbers)
"""


def test_the_kernels_are_compiled_for_a_gpu_without_one(tmp_path):
    """What the interpreter lets pass a compiler may not; the memory is that of a multiprocessor, which has 99 KB."""
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(shared := list(map(int, done.stdout.split()))) == 3 and max(shared) < 99 * 1024


def test_one_kernel_does_what_three_layers_do(kernels):
    assert 0 < kernels["worst"] < 1


def test_one_pass_from_whole_pictures_to_an_input_gives_the_same_bits(kernels):
    """Of batches with colours, without, scaled, of a CPU's crops and of two columns; of views; of a store of 252 GB."""
    assert kernels["same"] == [True] * 9


def test_which_layers_are_one_kernel(monkeypatch):
    tried = []
    monkeypatch.setattr(fast, "pools_at_once", lambda device, maps: tried.append(maps) or True)
    relu, norm, pool = nn.ReLU(), LocalResponseNorm(), nn.MaxPool2d(3, 2)
    x = torch.ones(1, 8, 9, 9, dtype=torch.bfloat16)
    assert fast._is_one_kernel([relu, norm, pool], x) and fast._is_one_kernel([norm, pool], x)
    other = [nn.MaxPool2d(2, 2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 2)]
    assert not any(fast._is_one_kernel([relu, norm, p], x) for p in other)
    norms = [LocalResponseNorm(beta=0.5), LocalResponseNorm(columns=2), nn.Identity()]
    assert not any(fast._is_one_kernel([relu, n, pool], x) for n in norms)
    assert not fast._is_one_kernel([nn.Tanh(), norm, pool], x) and not fast._is_one_kernel([pool], x)
    assert not fast._is_one_kernel([norm, pool], x.float())  # in which products are slow
    net, calls = alexnet("paper", 7, width=0.1, image_size=99, seed=0), []
    monkeypatch.setattr(fast, "pooled_response", lambda x, row: calls.append(len(row)) or nn.Sequential(*row)(x))
    own = fast.Fast(net)
    assert not own.normalises
    with torch.autocast("cpu", torch.bfloat16):
        own(torch.rand(1, 3, 99, 99))
    assert calls == [3] * 4 and own.normalises  # two layers, two columns
    assert tried[-2:] == [net.conv1.out_channels // 2, net.conv2.out_channels // 2]  # of a column


def test_triton_that_does_not_work_says_why(monkeypatch):
    for works, maps, what in ((fast.pools_at_once, (96,), "of 96 maps are three"), (fast.cuts_at_once, (), "several")):
        works.cache_clear()
        assert not works(torch.device("cpu"), *maps)
        with pytest.warns(UserWarning, match=f"Triton does not work here .* {what} steps; a C compiler"):
            assert not works(torch.device("cuda", 77), *maps)
        works.cache_clear()


# ------------------------------------------------------------------------------------------------------ as one graph


def losses(place, capture=None, **changes):
    """What the steps of two epochs return, and the last weights."""
    store = load_dataset(NAME)["train"]
    run = resolve(settings(**changes), store)
    state, mean = RunState(run, 3), mean_of(store, run.image_size)
    state.replays = step.Replays(state.optimizer, capture) if capture else None
    said = []
    for epoch in range(3):
        for number, (x, labels) in enumerate(make_batches(run, store, mean, epoch)):
            state.epoch, state.step, state.job.batch = epoch, number, len(x)
            run.set_rates(state.optimizer, state.rule, state.epoch, (state.epoch + state.step / 4) / 3)
            said.append(step.train_step(run, state, x, labels))
    return torch.stack(said), state


@pytest.mark.parametrize("recipe", ["small", "code2012"])
def test_steps_that_are_replayed_are_the_steps(place, monkeypatch, recipe):
    """The rates fall from step to step; code2012 also stops a layer. Nothing that a graph reads may be left behind."""
    monkeypatch.setattr(step, "EAGER_STEPS", 1)
    plain, state = losses(place, recipe=recipe, batch_size=13, initialisation="fan_in", learning_rate=0.01)
    replayed, other = losses(
        place, lambda work: work, recipe=recipe, batch_size=13, initialisation="fan_in", learning_rate=0.01
    )
    assert len(other.replays.ready) >= 2  # whole batches, and the last of an epoch
    torch.testing.assert_close(replayed, plain, rtol=1e-5, atol=1e-4)
    for own, theirs in zip(state.net.parameters(), other.net.parameters(), strict=True):
        torch.testing.assert_close(theirs, own, rtol=1e-4, atol=1e-6)


def test_steps_before_a_graph_and_after_it_have_the_same_bits(place, monkeypatch):
    """A run that is taken up begins without a graph, and must not tell: every step has its rates from float32."""

    def taken(self):
        rates.extend(group["lr"] for group in self.param_groups)
        return sgd_step(self)

    rates, sgd_step = [], optimizers.SGD.step
    monkeypatch.setattr(optimizers.SGD, "step", taken)
    early, late = [(monkeypatch.setattr(step, "EAGER_STEPS", n), losses(place, lambda work: work))[1] for n in (1, 99)]
    assert early[1].replays.ready and not late[1].replays.ready and torch.equal(early[0], late[0])
    for own, theirs in zip(early[1].net.parameters(), late[1].net.parameters(), strict=True):
        assert torch.equal(own, theirs)
    assert len(rates) >= 24 and {getattr(rate, "dtype", None) for rate in rates} == {torch.float32}


def test_every_run_of_one_process_on_a_gpu_has_a_graph(place, monkeypatch):
    """Also one that a notebook has started, which is a job of one."""
    store = load_dataset(NAME)["train"]
    run = resolve(settings(), store)
    monkeypatch.setattr(run_state, "build_net", lambda run, classes: alexnet("paper", classes, **run.changes()))

    class InAJob(Job):
        def as_leader_says(self, value):
            return value

        synchronised = staticmethod(lambda net: net)

    for speed in ("repeatable", "fast"):
        on_gpu = dataclasses.replace(run, device="cuda:0", speed=speed)
        alone, of_one, of_two = (
            RunState(on_gpu, 3, InAJob(mesh=mesh, replicas=n)) for mesh, n in ((None, 1), (1, 1), (1, 2))
        )
        assert alone.replays and of_one.replays and of_two.replays is None
        assert isinstance(alone.forward, fast.Fast) == (speed == "fast")
    for layer in (alone.net.norm1, alone.net.norm2):
        layer.compiled = True
    alone.forward.normalises = True
    monkeypatch.setattr(run_state, "can_compile", None)  # what was a kernel in Triton need not be compiled to know it
    assert alone.compiled
    assert RunState(run, 3).replays is None


def test_a_step_that_cannot_be_captured_is_taken_as_it_is(place, monkeypatch):
    monkeypatch.setattr(step, "EAGER_STEPS", 1)

    def fails(work):
        attempt = torch.empty(3)
        tensors.append(weakref.ref(attempt))
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    def update(*arguments):
        left.append([tensor() for tensor in tensors])
        return taken_as_it_is(*arguments)

    tensors, left, taken_as_it_is = [], [], step._update
    monkeypatch.setattr(step, "_update", update)
    plain, _ = losses(place, lambda work: work)
    left.clear()
    with pytest.warns(UserWarning, match="a step is no CUDA graph here.*: RuntimeError: operation not permitted"):
        taken, state = losses(place, fails)
    assert torch.equal(plain, taken) and left == [[], *[[None]] * (len(left) - 1)]  # none is kept by the error
    assert state.replays.reason == "RuntimeError: operation not permitted when stream is capturing"


def test_rates_of_a_graph_are_kept_in_tensors():
    nets = [nn.Linear(3, 2) for _ in range(2)]
    nets[1] = deepcopy(nets[0])
    optimizers = [PaperSGD(net.parameters(), 0.1) for net in nets]
    x = torch.rand(4, 3)
    for rate in (0.1, 0.1, 0.02, 0.0, 0.05):
        for net, optimizer in zip(nets, optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            net(x).square().sum().backward()
        optimizers[0].step()
        with optimizers[1].fixed_rates():
            optimizers[1].step()
    torch.testing.assert_close(nets[1].weight, nets[0].weight, rtol=1e-6, atol=1e-7)
    assert optimizers[1].param_groups[0]["fixed"].item() == pytest.approx(0.05)


def test_repeatable_means_it_on_a_gpu_and_leaves_no_trace():
    def flags():
        backends = torch.backends
        deterministic = torch.are_deterministic_algorithms_enabled(), backends.cudnn.deterministic
        return *deterministic, not (backends.cudnn.allow_tf32 or backends.cuda.matmul.allow_tf32)

    before = flags()
    with step.arithmetic_of(SimpleNamespace(speed="repeatable", device="cuda:0", precision="fp32")):
        assert flags() == (True, True, True) and not torch.utils.deterministic.fill_uninitialized_memory
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
    assert flags() == before != (True, True, True)
    with step.arithmetic_of(SimpleNamespace(speed="repeatable", device="cpu", precision="fp32")):
        assert flags() == before
