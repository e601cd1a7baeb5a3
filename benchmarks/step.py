"""A training step of the full-size net, from the plain way to `speed = "fast"`, one part after the other.

Plain is what one would otherwise write: float32, torch's own memory layout, nn.LocalResponseNorm, torch.optim.SGD and
the system's allocator. Each way runs in a process of its own, because the allocator is chosen when a process starts,
and takes its steps in turns with a plain one, so that what else the machine does befalls both alike. Printed are median
seconds by the clock and of processor time, and the medians of both ratios, as each way is done, so that a run that is
cut off has told what it knows. On a machine with other work the ratios of processor time are the ones to trust.

For a GPU there is gpu.py.

--keep    also writes results/reference/step-BATCH/, from which README and notebook 07 read
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

BATCH, ROUNDS = 128, 3
PLAIN, OWN = "plain", "fast"
# each way adds one thing to the one before it
WAYS = {
    PLAIN: {},
    "kept memory": {"allocator": True},
    "own LRN": {"norm": "own"},
    "channels last": {"layout": "channels_last"},
    "fused update": {"optimizer": "paper"},
    OWN: {"norm": "compiled", "bf16": True},
    "fast without LRN": {"norm": None},
    "plain without LRN": {"allocator": False, "layout": None, "optimizer": "torch", "bf16": False},
}


def choices(way: str) -> dict:
    """Everything that a way has chosen."""
    chosen = {"allocator": False, "norm": "torch", "layout": None, "optimizer": "torch", "bf16": False}
    for name, changes in WAYS.items():
        chosen |= changes
        if name == way:
            return chosen
    raise ValueError(way)


def build(net_name: str, norm: str | None, **changes):
    """A net with torch's, our, our compiled, or without normalisation; "torchvision" has none."""
    from torch import nn

    from alexnet_lib import LocalResponseNorm, alexnet

    if net_name == "torchvision":
        from torchvision.models import alexnet as theirs

        return theirs(num_classes=1000)
    net = alexnet(net_name, normalization="own" if norm else None, seed=0, **changes)
    for name, layer in net.named_children():
        if isinstance(layer, LocalResponseNorm):
            if norm == "torch":
                alpha = layer.alpha * (layer.n if layer.convention == "paper" else 1)  # torch divides by n
                setattr(net, name, nn.LocalResponseNorm(layer.n, alpha, layer.beta, layer.k))  # over both columns
            else:
                layer.compiled = norm == "compiled"
    return net


def stepper(net, chosen: dict, device: str, batch: int, side: int = 224):
    """A function that makes one update on random pixels."""
    import torch
    import torch.nn.functional as F

    from alexnet_lib import PaperSGD
    from alexnet_lib.runs.bfloat16 import computes_in_bf16

    layout = torch.channels_last if chosen["layout"] else torch.contiguous_format
    net = net.to(device, memory_format=layout).train()
    images = (torch.rand(batch, 3, side, side) * 255 - 128).to(device, memory_format=layout)
    labels = torch.arange(batch, device=device) % 1000
    usual = {"lr": 1e-4, "momentum": 0.9, "weight_decay": 5e-4}
    optimizer = (PaperSGD if chosen["optimizer"] == "paper" else torch.optim.SGD)(net.parameters(), **usual)
    bf16 = chosen["bf16"] and computes_in_bf16(device)

    def step():
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            logits = net(images)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


# ------------------------------------------------------------------------------------------------------- on a CPU


def work(way: str, batch: int) -> None:
    """What the process of a way does: a step for each line that it is sent; it answers with the seconds."""
    chosen = choices(way)
    step = stepper(build("paper", chosen["norm"]), chosen, "cpu", batch)
    step()
    print("ready", flush=True)
    for _ in sys.stdin:
        began, used = time.perf_counter(), time.process_time()
        step()
        print(time.perf_counter() - began, time.process_time() - used, flush=True)


def start(way: str, batch: int) -> subprocess.Popen:
    """A process that waits for its turns."""
    from alexnet_lib import ALLOCATOR

    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    environment |= ALLOCATOR if choices(way)["allocator"] else {}
    command = [sys.executable, __file__, "--way", way, "--batch", str(batch)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(f"{way} ended before its first step")
    return process


def on_cpu(batch: int, rounds: int, ways: list[str], keep: bool) -> None:
    import torch

    from alexnet_lib.runs.bfloat16 import computes_in_bf16

    about = {"device": "cpu", "threads": torch.get_num_threads(), "batch_size": batch, "rounds": rounds}
    about["bfloat16_units"] = computes_in_bf16("cpu")
    print(json.dumps(about), flush=True)
    rows, plain = [], start(PLAIN, batch)
    for way in ways:
        process = start(way, batch)
        times = [(seconds(plain), seconds(process)) for _ in range(rounds)]
        end(process)
        rows.append(row_of(way, times))
        clock = "{way}: {seconds} s a step, {ratio} times as fast as plain".format(**rows[-1])
        print(
            clock + "; of the processor {processor_seconds} s, {processor_ratio} times".format(**rows[-1]), flush=True
        )
        if keep:
            write(f"step-{batch}", rows, about)
    end(plain)


def seconds(process: subprocess.Popen) -> tuple[float, float]:
    """Let a process take a step: how long it took, and its processor time."""
    process.stdin.write("\n")
    process.stdin.flush()
    clock, processor = map(float, process.stdout.readline().split())
    return clock, processor


def end(process: subprocess.Popen) -> None:
    process.stdin.close()
    process.wait()


def row_of(way: str, times: list[tuple[tuple, tuple]]) -> dict:
    """The medians of a way over its rounds with the plain one."""
    row = {"way": way}
    for number, name in enumerate(("", "processor_")):
        plain, own = ([of[number] for of in side] for side in zip(*times, strict=True))
        row[f"{name}seconds"] = round(statistics.median(own), 3)
        row[f"{name}ratio"] = round(statistics.median(a / b for a, b in zip(plain, own, strict=True)), 3)
    return row


# --------------------------------------------------------------------------------------------------------------------


def write(name: str, rows: list[dict], about: dict) -> None:
    from alexnet_lib.files import write_json
    from alexnet_lib.paths import REFERENCE
    from alexnet_lib.runs.provenance import provenance
    from alexnet_lib.runs.records import write_table

    folder = REFERENCE / name
    folder.mkdir(exist_ok=True)
    write_table(folder / "step.csv", rows)
    asked = f"--batch {about['batch_size']} --rounds {about['rounds']} --ways {' '.join(row['way'] for row in rows)}"
    command = f"python benchmarks/step.py {asked} --keep"
    write_json(folder / "summary.json", {"command": command} | about | provenance())


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS)[1:], choices=list(WAYS))
    parser.add_argument("--keep", action="store_true", help="write the reference")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.way:
        work(given.way, given.batch)
    else:
        on_cpu(given.batch, given.rounds, given.ways, given.keep)


if __name__ == "__main__":
    sys.exit(main())
