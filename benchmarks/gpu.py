"""What a GPU shows, in at most eight minutes: whether what is fast is also right, and how fast it is.

Parts, each with rows of (what, found, goal, verdict): equality, repeatability, the step of every net, the profile of
one, the loop from a store, the CIFAR nets' step, two devices. A part that fails says why, with its whole traceback in
its record, and the others go on. A table comes last. The goals are for one H100; `build/gpu` holds a record of each
part unless --into says otherwise. It needs only what the library itself needs.

--small    the same parts on nets and pictures of a few pixels, also on a CPU: it shows that the script works
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from unittest.mock import patch

MINUTES = 8
# images a second on one H100, of the loop's share a fraction
GOALS = {("paper", 128): 35_000, ("paper", 1024): 50_000, "cifar": 100_000, "share": 0.9, "torchvision": 1.0}
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}  # bfloat16, dense, per second
NOTHING, EQUAL = "no goal", "equal"


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
    if fast.pools_at_once(card, 48):
        rows.append(kernel_error(place))
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


def kernel_error(place: Place) -> dict:
    """The kernel of ReLU, normalisation and pooling against float64."""
    import torch
    from torch import nn

    from alexnet_lib import LocalResponseNorm
    from alexnet_lib.runs.fast import pooled_response

    layers = [nn.ReLU(), LocalResponseNorm(), nn.MaxPool2d(3, 2)]
    x = (30 * torch.randn(4, 48, 55, 55, device=place.device)).bfloat16().requires_grad_()
    exact = nn.Sequential(*layers)(x.double())
    worst = ((pooled_response(x, layers).double() - exact).abs().max() / exact.abs().max()).item()
    return row("ReLU, LRN and pooling as one kernel, bfloat16 against float64", worst, 0.01, worst < 0.01)


def repeatability(place: Place, folder: Path) -> list[dict]:
    """Two runs of each kind, the second cut off and taken up: the same history and the same weights."""
    from alexnet_lib import train
    from alexnet_lib.runs.cifar_settings import CifarSettings
    from alexnet_lib.runs.settings import TrainSettings

    small = {"width": 0.05, "batch_size": 16} if place.small else {}
    kinds = {
        "repeatable": TrainSettings("embedded", epochs=2, device=place.device, devices=1, **small),
        "code2012, repeatable": TrainSettings(
            "embedded", net="code2012", recipe="code2012", epochs=2, device=place.device, devices=1, **small
        ),
        "CIFAR net": CifarSettings("embedded32", stages=((2, 1.0),), input_divisor=64.0, device=place.device),
    }
    if place.small:  # in their place
        for name, size in (("embedded-73", 73), ("embedded32-32", 32)):
            for split in ("train", "val"):
                noise_store(place, Path(os.environ["ALEXNET_DATA"]) / "prepared" / name / split, 48, size)
    rows = []
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


def cut_off(settings) -> None:
    """Begin a run, and leave it after its first epoch."""
    from alexnet_lib import train

    class Enough(Exception):
        pass

    def stop(history):
        raise Enough

    with contextlib.suppress(Enough):
        train(settings, on_epoch=stop)


def step_rates(place: Place, folder: Path) -> list[dict]:
    """Images a second of a training step on random pixels: plain, fast, and torchvision's net in bfloat16."""
    import torch
    from step import OWN, PLAIN, build, choices, stepper

    store, rows, theirs = noise_store(place, folder / "few", 40), [], {}
    size = {"image_size": 64, "width": 0.05} if place.small else {}
    for batch in place.batches:
        for net in ("torchvision", "paper", "code2012"):
            side = 224 if net == "torchvision" else place.size["image_size"]
            chosen = choices(PLAIN) if net != "torchvision" else choices("fast without LRN")
            own = build(net, chosen["norm"], **{} if net == "torchvision" else size)
            rate = place.rate(stepper(own, chosen, place.device, batch, side), batch)
            rows.append(row(f"{net}, {'bfloat16' if net == 'torchvision' else PLAIN}, batch {batch}", rate))
            if net == "torchvision":
                theirs[batch] = rate
                continue
            run = resolved(place, store, batch, net=net, speed="fast")
            state, step = stepped(place, run, 7 if place.small else 1000)
            rate = place.rate(step, batch)
            rows.append(row(f"{net}, {OWN}, batch {batch}", rate, GOALS.get((net, batch))))
            rows[-1] |= {"share_of_peak": share_of_peak(place, net, rate)}
            if state.replays is not None and state.replays.reason:
                rows.append(row(f"{net}, batch {batch}, no graph", state.replays.reason, "a graph", False))
            if net == "paper" and batch == place.batches[len(place.batches) // 2]:
                rows.append(row("paper / torchvision's net without LRN", rate / theirs[batch], GOALS["torchvision"]))
            del state, step
        if place.device != "cpu":
            torch.cuda.empty_cache()
    return rows


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


def loop(place: Place, folder: Path) -> list[dict]:
    """Images a second of the real loop, from a store that is read and from one on the card, over the step alone."""
    import torch

    from alexnet_lib import mean_of
    from alexnet_lib.loader import in_memory
    from alexnet_lib.run_state import RunState
    from alexnet_lib.training import train_epoch

    class Silent:
        def update(self, steps):
            pass

        losses = update

    rows, batch = [], 8 if place.small else 1024
    store = noise_store(place, folder / "many", 64 if place.small else 16 * 1024)
    for batch in (8,) if place.small else (128, 1024):
        run = resolved(place, store, batch, speed="fast")
        alone = place.rate(stepped(place, run, len(store.classes))[1], batch)
        kept = in_memory({"train": store}, place.device)["train"]
        for where, own in (("read", store), ("on the card", kept)):
            state, times = RunState(run, len(store.classes)), []
            for state.epoch in (0, 1, 2):
                state.step, began = 0, time.perf_counter()
                waited = train_epoch(
                    run, own, mean_of(store, run.image_size), -(-len(own) // batch), state, Silent(), Silent()
                )
                place.synchronise()
                times.append(time.perf_counter() - began)
            rate = len(own) / times[-1]
            rows.append(row(f"batch {batch}, pictures {where}, images a second", rate))
            rows.append(row(f"batch {batch}, pictures {where}, loop / step", rate / alone, GOALS["share"]))
            rows.append(row(f"batch {batch}, pictures {where}, of the time waiting", waited / times[-1]))
    for views in ((1,), (1, 10)):
        few, began = store.spread(8 if place.small else 8192), time.perf_counter()
        run.measure(state.net, few, mean_of(store, run.image_size), views, state.job)
        rows.append(
            row(
                f"tested with {' and '.join(map(str, views))} views, images a second",
                len(few) / (time.perf_counter() - began),
            )
        )
    if place.device != "cpu":
        rows.append(row("GPU memory, GB at most", torch.cuda.max_memory_allocated(place.device) / 1e9))
    return rows


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


def two_devices(place: Place, folder: Path) -> list[dict]:
    """Both columns against the net on one device, in float64, where there are two GPUs (or --small, two processes)."""
    import torch

    from alexnet_lib.runs.launch import torchrun

    if not place.small and torch.cuda.device_count() < 2:
        return [row("two devices", "one GPU here")]
    lines = torchrun(2, "columns", "--steps", "2", "--batch", "4", "--width", "0.1")
    found = json.loads(lines[-1])
    return [row(f"two columns, {what}", found[what], 1e-9, found[what] < 1e-9) for what in ("outputs", "weights")]


PARTS = (equality, repeatability, step_rates, cifar, loop, two_devices, profile)


# --------------------------------------------------------------------------------------------------------------------


def done(part, place: Place, folder: Path, into: Path, about: dict) -> list[dict]:
    """The rows of a part, kept with what it took; a part that fails has one row, and its traceback in the record."""
    began, trace = time.perf_counter(), ""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            rows = part(place, folder)
        except Exception as error:
            trace = traceback.format_exc()
            rows = [row(part.__name__, f"{type(error).__name__}: {error}".splitlines()[0], "no error", False)]
    record = about | {"part": part.__name__, "seconds": round(time.perf_counter() - began, 1), "rows": rows}
    record |= {"warnings": sorted({str(one.message)[:500] for one in warned}), "traceback": trace}
    (into / f"{part.__name__}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return [{"part": part.__name__} | one for one in rows]


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

    from alexnet_lib.paths import REPOSITORY
    from alexnet_lib.runs.launch import has_allocator, with_allocator
    from alexnet_lib.runs.records import provenance
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
    parts = [part for part in PARTS if not given.only or part.__name__ in given.only]
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, ALEXNET_PROGRESS="none"):
        folder = Path(name)
        os.environ |= {"ALEXNET_RUNS": str(folder / "runs"), "ALEXNET_DATA": str(folder / "data")}
        for part in parts:
            if time.perf_counter() - began > 60 * (MINUTES - 1):
                rows.append({"part": part.__name__} | row(part.__name__, "no time left"))
                continue
            (own := folder / part.__name__).mkdir()
            rows += done(part, place, own, given.into, about | provenance())
            print(f"{part.__name__}: {time.perf_counter() - began:.0f} s so far", flush=True)
    print(table(rows))
    return int(any(one["verdict"] == "missed" for one in rows) and not given.small)


if __name__ == "__main__":
    sys.exit(main())
