"""What a GPU shows, in at most eight minutes: whether what is fast is also right, and how fast it is.

Parts, each with rows of (what, found, goal, verdict): equality, repeatability, the training that a CPU can't try, the
step of every net, the CIFAR nets' step, the loop from a store, two devices, the profile of a step. A part that fails
keeps what it has found and says why, with its whole traceback in its record, and the others go on; so it is with the
part that is at work when the time is up. A table comes last. The goals are for one H100; `build/gpu` holds a record of
each part unless --into says otherwise. It needs only what the library itself needs.

--small    the same parts on nets and pictures of a few pixels, also on a CPU: it shows that the script works
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

MINUTES = 8
SPARE = 15  # seconds of them, for the end of what is at work and for the table
# images a second on one H100, of the loop's share a fraction
GOALS = {("paper", 128): 35_000, ("paper", 1024): 50_000, "cifar": 100_000, "share": 0.9, "torchvision": 1.0}
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}  # bfloat16, dense, per second
NOTHING, EQUAL = "no goal", "equal"


class TimeIsUp(BaseException):
    """Nothing that catches errors is to catch it."""


@dataclasses.dataclass
class Place:
    """Where and how large: "cuda:0" and the nets as they are, or, small, also "cpu" and nets of seconds."""

    device: str
    small: bool
    seconds: float  # of a measurement

    @property
    def batches(self) -> tuple[int, ...]:
        return (8,) if self.small else (128, 512, 1024)

    @property
    def size(self) -> dict:
        return {"width": 0.05, "image_size": 64} if self.small else {"width": 1.0, "image_size": 224}

    def synchronise(self) -> None:
        import torch

        if self.device != "cpu":
            torch.cuda.synchronize(self.device)

    def rate(self, step, batch: int) -> float:
        """Images a second of a step, from those that fill `seconds`, after enough for a graph and its replays."""
        from alexnet_lib.runs.step import EAGER_STEPS

        for _ in range(1 if self.device == "cpu" else EAGER_STEPS + 5):
            step()
        self.synchronise()
        began, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - began < self.seconds:
            for _ in range(1 if self.small else 10):
                step()
                steps += 1
            self.synchronise()
        return batch * steps / (time.perf_counter() - began)


def row(what: str, found, goal=None, enough: bool | None = None) -> dict:
    """A row of the table; `enough` where the goal is no number to reach."""
    if enough is None:
        enough = None if goal is None else found >= goal
    found = float(f"{found:.4g}") if isinstance(found, float) else found
    return {
        "what": what,
        "found": found,
        "goal": NOTHING if goal is None else goal,
        "verdict": {None: "", True: "reached", False: "missed"}[enough],
    }


def noise_store(place: Place, folder: Path, count: int, size: int | None = None):
    """A store on disk of `count` pictures of noise, of 1,000 classes, or of 7."""
    import numpy as np

    from alexnet_lib.data.preparation import write_store
    from alexnet_lib.dataset import open_store

    size, classes = (size or 73, 7) if place.small else (256, 1000)
    generator = np.random.default_rng(0)
    few = generator.integers(0, 256, (min(count, 256), size, size, 3), np.uint8)
    images = np.concatenate([few] * -(-count // len(few)))[:count]
    names = [f"class {number:04}" for number in range(classes)]
    write_store(folder, images, np.arange(count) % classes, names, {"source": "noise"})
    return open_store(folder)


def resolved(place: Place, store, batch: int, **changes):
    from alexnet_lib.runs.settings import TrainSettings, resolve

    given = {"dataset": "embedded", "recipe": "paper", "epochs": 90, "batch_size": batch, "devices": 1}
    return resolve(TrainSettings(device=place.device, **given | place.size | changes), store)


def stepped(place: Place, run, classes: int, replayed: bool = True):
    """A run's state, and a function that makes its next update on random pixels."""
    import torch

    from alexnet_lib.run_state import RunState
    from alexnet_lib.runs.step import train_step

    state = RunState(run, classes)
    if not replayed:
        state.replays = None
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(run.batch_size, 3, run.image_size, run.image_size, generator=generator) * 255 - 128
    x = x.to(place.device, memory_format=torch.channels_last)
    labels = (torch.arange(run.batch_size) % classes).to(place.device)
    state.job.batch = run.batch_size
    state.net.train()

    def step():
        run.set_rates(state.optimizer, state.rule, 0, 0.0)
        state.step += 1
        return train_step(run, state, x, labels)

    return state, step


# --------------------------------------------------------------------------------------------------------- the parts


def equality(place: Place, folder: Path) -> list[dict]:
    """What is fast against what is plain: the net in float64, the kernel, the steps of a graph, the batches."""
    import torch
    import torch.nn.functional as F

    from alexnet_lib import alexnet, mean_of
    from alexnet_lib.architecture import NETS
    from alexnet_lib.loader import batches, in_memory, make_batches
    from alexnet_lib.runs import fast

    rows, store = [], noise_store(place, folder / "few", 40)
    for name in NETS:
        net = alexnet(name, 7, width=0.1, image_size=99, dropout=0.0, seed=0).to(place.device, torch.float64)
        x = torch.rand(4, 3, 99, 99, dtype=torch.float64).to(place.device) * 255 - 128
        gradients = []
        for forward in (net, fast.Fast(net)):
            net.zero_grad()
            F.cross_entropy(forward(x), torch.arange(4, device=place.device)).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
        worst = ((gradients[0] - gradients[1]).abs().max() / gradients[0].abs().max()).item()
        rows.append(row(f"{name}, fast against plain in float64", worst, 1e-9, worst < 1e-9))
    card = torch.device(place.device)
    for maps in (48, 128):  # of a column, in the first layer and in the second
        rows += kernel_errors(place, maps) if fast.pools_at_once(card, maps) else []
    for changes in ({"speed": "fast"}, {"speed": "fast", "net": "code2012", "recipe": "code2012"}):
        run = resolved(place, store, 8, initialisation="fan_in", learning_rate=1e-3, **place.size | changes)
        (_, graph), (_, eager) = (stepped(place, run, 7, replayed) for replayed in (True, False))
        losses = [torch.stack([step()[0] for _ in range(20)]).cpu() for step in (graph, eager)]
        worst = ((losses[0] - losses[1]).abs() / losses[1]).max().item()
        rows.append(row(f"{run.net}, 20 losses, a graph's against steps'", worst, 1e-2, worst < 1e-2))
    run = resolved(place, store, 16)
    mean = mean_of(store, run.image_size)
    on_cpu = list(make_batches(dataclasses.replace(run, device="cpu"), store, mean, 0))
    for where, own in (("disk", store), ("the card", in_memory({"train": store}, place.device)["train"])):
        worst = max(
            (one[0] - other[0].cpu()).abs().max().item()
            for one, other in zip(on_cpu, batches(run, own, mean, 0), strict=True)
        )
        goal = 0.0 if fast.cuts_at_once(card) else 1e-4  # torch divides by a number as it multiplies by its inverse
        rows.append(row(f"batches from {where} against the CPU's, grey levels", worst, goal, worst <= goal))
    return rows


def kernel_errors(place: Place, maps: int) -> list[dict]:
    """The kernel of ReLU, normalisation and pooling in bfloat16 against the three in float64, forward and backward."""
    import torch
    from torch import nn

    from alexnet_lib import LocalResponseNorm
    from alexnet_lib.runs.fast import pooled_response

    layers = [nn.ReLU(), LocalResponseNorm(), nn.MaxPool2d(3, 2)]
    x = (30 * torch.randn(4, maps, 27, 27, device=place.device)).bfloat16().requires_grad_()
    own, wide = pooled_response(x, layers), x.detach().double().requires_grad_()
    exact = nn.Sequential(*layers)(wide)
    weights = torch.rand_like(exact)
    slopes = torch.autograd.grad(own, x, weights.to(own.dtype)), torch.autograd.grad(exact, wide, weights)
    errors = {"": (own.double() - exact).abs().max() / exact.abs().max()}
    # units that tie in bfloat16 do not in float64, and another one is the largest
    errors[", gradient"] = (slopes[0][0].double() - slopes[1][0]).abs().mean() / slopes[1][0].abs().mean()
    what = f"ReLU, LRN and pooling of {maps} maps as one kernel, bfloat16 against float64"
    return [
        row(what + of, e := error.item(), goal, e < goal)
        for (of, error), goal in zip(errors.items(), (0.01, 0.1), strict=True)
    ]


def repeatability(place: Place, folder: Path) -> list[dict]:
    """Two runs of each kind, the second cut off and taken up: the same history and the same weights."""
    from alexnet_lib import train
    from alexnet_lib.runs.cifar_settings import CifarSettings
    from alexnet_lib.runs.settings import TrainSettings

    small, rows = small_pictures(place), []
    kinds = {
        "repeatable": TrainSettings("embedded", epochs=2, device=place.device, devices=1, **small),
        "code2012, repeatable": TrainSettings(
            "embedded", net="code2012", recipe="code2012", epochs=2, device=place.device, devices=1, **small
        ),
        "CIFAR net": CifarSettings("embedded32", stages=((2, 1.0),), input_divisor=64.0, device=place.device),
    }
    for name, settings in kinds.items():
        found = []
        for attempt in (f"{name} once", f"{name} again"):
            os.environ["ALEXNET_RUNS"] = str(folder / "runs" / attempt)
            if attempt.endswith("again"):
                cut_off(settings)
            record = train(settings)
            found.append([(record.folder / file).read_bytes() for file in ("history.csv", "checkpoint.pt")])
        same = found[0] == found[1]
        rows.append(row(f"{name}, repeated and taken up", EQUAL if same else "different", EQUAL, same))
    return rows


def small_pictures(place: Place) -> dict:
    """What makes a run of the built-in pictures small where it is to be; then noise stands in for them."""
    if not place.small:
        return {}
    for name, size in (("embedded-73", 73), ("embedded32-32", 32)):
        for split in ("train", "val"):
            noise_store(place, prepared(name, split), 48, size)
    return {"width": 0.05, "batch_size": 16}


def prepared(name: str, split: str) -> Path:
    return Path(os.environ["ALEXNET_DATA"]) / "prepared" / name / split


def cut_off(settings) -> None:
    """Begin a run, and leave it after its first epoch."""
    from alexnet_lib import train

    class Enough(Exception):
        pass

    def stop(history):
        raise Enough

    with contextlib.suppress(Enough):
        train(settings, on_epoch=stop)


def training(place: Place, folder: Path) -> Iterator[dict]:
    """What a CPU can't try of training: each way of it ends as the plain one, or goes on from where it was."""
    from alexnet_lib import train
    from alexnet_lib.runs.settings import TrainSettings

    given = {"dataset": "embedded", "device": place.device, "devices": 1, "epochs": 2} | small_pictures(place)

    def trained(where: str, **changes):
        os.environ["ALEXNET_RUNS"] = str(folder / where)
        return train(TrainSettings(**given | {"name": "it"} | changes))

    plain = trained("plain")
    histories = {"read from the disk": patch("alexnet_lib.training.fits_on", lambda *_: False)}
    if place.small:
        histories = {"from memory": patch("alexnet_lib.training.fits_on", lambda *_: True)}
    for what, way in histories.items():
        with way:
            same = trained(what).history.equals(plain.history)
        yield row(f"pictures {what}", EQUAL if same else "different", EQUAL, same)

    os.environ["ALEXNET_RUNS"] = str(folder / "signal")
    code = stopped_by_a_signal(given | {"name": "it"}, folder)
    yield row("a signal in the first epoch ends with code", code, 75, code == 75)
    same = trained("signal").history.equals(plain.history)
    yield row("and what goes on from it", EQUAL if same else "different", EQUAL, same)

    os.environ["ALEXNET_RUNS"] = str(folder / "moved")
    cut_off(TrainSettings(**given | {"name": "it"}))
    moved = trained("moved", device="cpu")
    yield row("begun here and ended on the CPU, epochs", moved.summary["epochs"], 2, moved.summary["epochs"] == 2)

    fast = trained("fast", speed="fast")
    ratio = last_loss(fast) / last_loss(plain)
    yield row("loss of speed fast / repeatable", ratio, 1.1, 1 / 1.1 < ratio < 1.1)
    yield row("fast, its normalisation compiled", str(fast.summary["compiled"]))

    other = {"net": "googlenet", "recipe": "googlenet", "without": "pool3"}
    losses = [last_loss(trained(f"googlenet {attempt}", **other)) for attempt in ("once", "again")]
    same = losses[0] == losses[1]
    yield row("GoogLeNet, distorted pictures, repeated", EQUAL if same else "different", EQUAL, same)


def last_loss(record) -> float:
    return float(record.history.query("split == 'train'")["loss"].iloc[-1])


def stopped_by_a_signal(config: dict, folder: Path) -> int:
    """The code with which a process ends that is told to while it trains its first epoch."""
    (folder / "config.json").write_text(json.dumps(config | {"epochs": 2}), encoding="utf-8")
    command = [sys.executable, "-c", SLOWLY, str(folder / "config.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            for line in process.stdout:
                if line.startswith("begun"):
                    process.send_signal(signal.SIGUSR1)
            return process.wait()
        finally:
            process.kill()


SLOWLY = """
import time
from alexnet_lib import training

step, begun = training.train_step, []

def slow(*arguments):
    if not begun:
        print("begun", flush=True)
    begun.append(time.sleep(0 if begun else 1))
    return step(*arguments)

training.train_step, training.CHECK_EVERY = slow, 2
training.main()
"""


def step_rates(place: Place, folder: Path) -> Iterator[dict]:
    """Images a second of a training step on random pixels: plain, fast, and torchvision's net in bfloat16."""
    import torch

    store, theirs = noise_store(place, folder / "few", 40), {}
    ways = ("torchvision", "bfloat16"), *((net, way) for net in ("paper", "code2012") for way in ("fast", "plain"))
    for batch in place.batches:
        for net, way in ways:
            try:
                found = [*(rate_of(place, store, net, batch) if way == "fast" else usual_rate(place, net, way, batch))]
            except torch.OutOfMemoryError:
                found = [row(f"{net}, {way}, batch {batch}", "no room on this GPU")]
            yield from found
            if place.device != "cpu":
                torch.cuda.empty_cache()
            if net == "torchvision":
                theirs[batch] = found[0]["found"]
            rates = found[0]["found"], theirs[batch]
            middle = batch == place.batches[len(place.batches) // 2]
            if (net, way) == ("paper", "fast") and middle and all(isinstance(rate, float) for rate in rates):
                yield row("paper / torchvision's net without LRN", rates[0] / rates[1], GOALS["torchvision"])


def usual_rate(place: Place, net: str, way: str, batch: int) -> Iterator[dict]:
    """As one would otherwise write it: a net in float32, or torchvision's in bfloat16."""
    from step import PLAIN, build, choices, stepper

    theirs = net == "torchvision"
    chosen = choices("fast without LRN" if theirs else PLAIN)
    size = {"image_size": 64, "width": 0.05} if place.small and not theirs else {}
    step = stepper(build(net, chosen["norm"], **size), chosen, place.device, batch, size.get("image_size", 224))
    yield row(f"{net}, {way}, batch {batch}", place.rate(step, batch))


def rate_of(place: Place, store, net: str, batch: int) -> Iterator[dict]:
    """As speed "fast" has it."""
    run = resolved(place, store, batch, net=net, speed="fast")
    state, step = stepped(place, run, 7 if place.small else 1000)
    rate = place.rate(step, batch)
    share = {"share_of_peak": share_of_peak(place, net, rate)}
    yield row(f"{net}, fast, batch {batch}", rate, GOALS.get((net, batch))) | share
    if state.replays is not None and state.replays.reason:
        yield row(f"{net}, batch {batch}, no graph", state.replays.reason, "a graph", False)


def share_of_peak(place: Place, net: str, rate: float) -> float | None:
    """What part of the chip's multiplications and additions, in bfloat16, a rate of the whole net takes."""
    import torch

    from alexnet_lib import skeleton
    from alexnet_lib.study.anatomy import summarise

    name = torch.cuda.get_device_name(place.device) if place.device != "cpu" else ""
    peak = next((peak for part, peak in PEAKS.items() if part in name), None)
    operations = 6 * int(summarise(skeleton(net))["multiply_adds"].sum())
    return round(rate * operations / peak, 4) if peak else None


def profile(place: Place, folder: Path) -> list[dict]:
    """The kernels that take the most time in five steps of the fast way, without a graph, which would hide them."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recording

    run = resolved(place, noise_store(place, folder / "few", 40), place.batches[-1], speed="fast")
    _, step = stepped(place, run, 7 if place.small else 1000, replayed=False)
    for _ in range(1 if place.small else 5):
        step()
    on_gpu = place.device != "cpu"
    with recording(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as recorded:
        for _ in range(1 if place.small else 5):
            step()
        place.synchronise()
    kind = "device" if on_gpu else "cpu"
    kernels = sorted(recorded.key_averages(), key=lambda one: -getattr(one, f"self_{kind}_time_total"))
    times = {one.key[:60]: getattr(one, f"self_{kind}_time_total") / 1000 for one in kernels[:20]}
    return [row(f"{name}, ms in all steps", float(time)) for name, time in times.items() if time > 0]


def loop(place: Place, folder: Path) -> Iterator[dict]:
    """Images a second of the real loop, from a store that is read and from one on the card, over the step alone."""
    import numpy as np
    import torch

    from alexnet_lib import mean_of
    from alexnet_lib.data.pieces import Rows
    from alexnet_lib.loader import fits_on, in_memory
    from alexnet_lib.run_state import RunState
    from alexnet_lib.training import train_epoch

    class Silent:
        def update(self, steps):
            pass

        losses = update

    store = noise_store(place, folder / "many", 64 if place.small else 16 * 1024)
    for batch in place.batches[::2]:
        run = resolved(place, store, batch, speed="fast")
        alone = place.rate(stepped(place, run, len(store.classes))[1], batch)
        # an epoch of some seconds, beside which its beginning is as short as in one of ImageNet
        times = 1 if place.small else min(8, 1 + int(3 * alone / len(store)))
        rows = np.tile(np.arange(len(store)), times)
        stores = {"read": dataclasses.replace(store, images=Rows(store.images, rows), labels=store.labels[rows])}
        if place.small or fits_on(place.device, {"train": store}):
            stores["on the card"] = in_memory({"train": store}, place.device)["train"]
        for where, own in stores.items():
            state = RunState(run, len(store.classes))
            for state.epoch in (0, 1):
                state.step, began = 0, time.perf_counter()
                waited = train_epoch(
                    run, own, mean_of(store, run.image_size), -(-len(own) // batch), state, Silent(), Silent()
                )
                place.synchronise()
                seconds = time.perf_counter() - began
            rate = len(own) / seconds
            yield row(f"batch {batch}, pictures {where}, images a second", rate)
            yield row(f"batch {batch}, pictures {where}, loop / step", rate / alone, GOALS["share"])
            yield row(f"batch {batch}, pictures {where}, of the time waiting", waited / seconds)
    for views in ((1,), (1, 10)):
        few, began = store.spread(8 if place.small else 8192), time.perf_counter()
        run.measure(state.net, few, mean_of(store, run.image_size), views, state.job)
        seconds = time.perf_counter() - began
        yield row(f"tested with {' and '.join(map(str, views))} views, images a second", len(few) / seconds)
    if place.device != "cpu":
        yield row("GPU memory, GB at most", torch.cuda.max_memory_allocated(place.device) / 1e9)


def cifar(place: Place, folder: Path) -> list[dict]:
    """Images a second of the CIFAR nets' step, eager and as a graph."""
    from alexnet_lib import load_dataset
    from alexnet_lib.runs.cifar_settings import CifarSettings
    from alexnet_lib.runs.settings import resolve
    from alexnet_lib.runs.step import arithmetic_of

    store, rows = load_dataset("embedded32")["train"], []
    for net in ("19pct", "conv-local-11pct-first"):
        run = resolve(CifarSettings("embedded32", net, input_divisor=64.0, device=place.device), store)
        for replayed in (False, True):
            with arithmetic_of(run):
                state, step = stepped(place, run, len(store.classes), replayed)
                rate, what = place.rate(step, run.batch_size), "graph" if replayed else "eager"
            rows.append(row(f"{net}, {what}", rate, GOALS["cifar"] if replayed and net == "19pct" else None))
            if replayed and state.replays is not None and state.replays.reason:
                rows.append(row(f"{net}, no graph", state.replays.reason, "a graph", False))
    return rows


def two_devices(place: Place, folder: Path) -> Iterator[dict]:
    """Where there are two GPUs (or --small, two processes): both columns against the net on one, and their rates."""
    from alexnet_lib import train
    from alexnet_lib.runs.job import usable_gpus
    from alexnet_lib.runs.launch import torchrun
    from alexnet_lib.runs.settings import TrainSettings

    if not place.small and len(usable_gpus()) < 2:
        yield row("two devices", "one GPU here")
        return
    lines = torchrun(2, "columns", "--steps", "2", "--batch", "4", "--width", "0.1")
    found = json.loads(lines[-1])
    for what in ("outputs", "weights"):
        yield row(f"two columns, {what}", found[what], 1e-9, found[what] < 1e-9)
    given = {"dataset": "embedded", "epochs": 2, "device": place.device} | small_pictures(place)
    if not place.small:
        for split, count in (("train", 16 * 1024), ("val", 256)):
            noise_store(place, prepared("imagenette-256", split), count)
        given |= {"dataset": "imagenette", "recipe": "paper", "speed": "fast"}
    os.environ["ALEXNET_RUNS"], rates = str(folder / "runs"), []
    ways = {"one device": (1, 1), "a column on each of two": (2, 2), "the net on each of two": (2, 1)}
    for how, (devices, columns) in ways.items():
        record = train(TrainSettings(**given, devices=devices, columns=columns, name=f"{devices} by {columns}"))
        rates.append(float(record.timing["images_per_second"].iloc[-1]))
        yield row(f"{how}, images a second", rates[-1])
    for how, rate in zip([*ways][1:], rates[1:], strict=True):
        yield row(f"{how} / one device", rate / rates[0], None if place.small else 1.0)


PARTS = (equality, repeatability, training, step_rates, cifar, loop, two_devices, profile)


# --------------------------------------------------------------------------------------------------------------------


def done(part, place: Place, folder: Path, into: Path, about: dict, left: float) -> list[dict]:
    """The rows of a part, kept with what it took; one that fails has a row more, and its traceback in the record.

    left: the seconds that it has.
    """
    began, trace, rows = time.perf_counter(), "", []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with alarm(left):
                for one in part(place, folder):
                    rows.append(one)
        except TimeIsUp:
            rows.append(row(part.__name__, "no time left"))
        except Exception as error:
            trace = traceback.format_exc()
            rows.append(row(part.__name__, f"{type(error).__name__}: {error}".splitlines()[0], "no error", False))
    record = about | {"part": part.__name__, "seconds": round(time.perf_counter() - began, 1), "rows": rows}
    record |= {"warnings": sorted({str(one.message)[:500] for one in warned}), "traceback": trace}
    (into / f"{part.__name__}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return [{"part": part.__name__} | one for one in rows]


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the block after so many seconds, where the system has alarms."""

    def ring(number, frame):
        raise TimeIsUp

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def table(rows: list[dict]) -> str:
    """The rows in columns, for a terminal."""
    cells = [("part", "what", "found", "goal", "verdict")]
    cells += [
        tuple(f"{v:,}" if isinstance(v, int | float) else str(v) for v in (r[name] for name in cells[0])) for r in rows
    ]
    widths = [min(70, max(len(line[i]) for line in cells)) for i in range(5)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def main(arguments=None) -> int:
    import torch

    from alexnet_lib import ALLOCATOR
    from alexnet_lib.paths import REPOSITORY
    from alexnet_lib.runs.launch import has_allocator, with_allocator
    from alexnet_lib.runs.provenance import provenance
    from alexnet_lib.runs.settings import find_device

    parser = argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--into", type=Path, default=REPOSITORY / "build" / "gpu", help="folder of the records")
    parser.add_argument("--only", nargs="+", choices=[part.__name__ for part in PARTS], help="these parts")
    parser.add_argument("--small", action="store_true", help="nets and pictures of seconds, also on a CPU")
    given = parser.parse_args(arguments)
    device = find_device(given.device)
    if device == "cpu" and not given.small:
        parser.exit(2, "there is no GPU here; --small shows on a CPU that the script works, and measures nothing\n")
    if not has_allocator() and not given.small:
        with_allocator()
    torch.backends.cudnn.benchmark = True  # as speed "fast" has it
    place = Place(device, given.small, 0.0 if given.small else 1.5)
    about = {"device": torch.cuda.get_device_name(device) if device != "cpu" else "cpu", "small": given.small}
    given.into.mkdir(parents=True, exist_ok=True)
    began, rows = time.perf_counter(), []
    until = began + 60 * MINUTES - SPARE
    parts = [part for part in PARTS if not given.only or part.__name__ in given.only]
    # small, all is done in this process, whatever its allocator
    environment = {"ALEXNET_PROGRESS": "none"} | (ALLOCATOR if given.small else {})
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, environment):
        folder = Path(name)
        os.environ |= {"ALEXNET_RUNS": str(folder / "runs"), "ALEXNET_DATA": str(folder / "data")}
        for part in parts:
            left = until - time.perf_counter()
            if left <= 0:
                rows.append({"part": part.__name__} | row(part.__name__, "no time left"))
                continue
            (own := folder / part.__name__).mkdir()
            rows += done(part, place, own, given.into, about | provenance(), left)
            print(f"{part.__name__}: {time.perf_counter() - began:.0f} s so far", flush=True)
    print(table(rows))
    return int(any(one["verdict"] == "missed" for one in rows) and not given.small)


if __name__ == "__main__":
    sys.exit(main())
