"""A training step in bfloat16 on a CPU: torch's own way, ours, and float32, in turns, in one run.

Where a processor has no units for bfloat16, torch emulates each product number by number, and `runs.bfloat16` has
float32 multiply and rounds the result. The net is the one whose runs on Tiny ImageNet are kept: half as wide, for crops
of 64 pixels. Each way has a process of its own. Printed are the medians of seconds, and of the ratios to ours.
"""

import argparse
import statistics
import sys
from contextlib import nullcontext

from turns import seconds, start

BATCH, SIDE, ROUNDS = 128, 64, 3
OURS, TORCH, FLOAT32 = "ours", "torch's own", "float32"


def step_of(way: str):
    """A step, as a function."""
    import torch
    import torch.nn.functional as F

    from alexnet_lib import PaperSGD, alexnet
    from alexnet_lib.runs.bfloat16 import MultipliedInFloat32

    net = alexnet("paper", 200, seed=0, width=0.5, image_size=SIDE).to(memory_format=torch.channels_last)
    optimizer = PaperSGD(net.parameters(), lr=1e-4)
    images = torch.randn(BATCH, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 200

    def step():
        with MultipliedInFloat32() if way == OURS else nullcontext():
            with torch.autocast("cpu", torch.bfloat16, enabled=way != FLOAT32):
                logits = net(images)
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()

    return step


def main(arguments=None) -> None:
    argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0]).parse_args(arguments)
    from alexnet_lib.runs.bfloat16 import computes_in_bf16

    print("with units for bfloat16" if computes_in_bf16("cpu") else "without units for bfloat16", flush=True)
    processes = {way: start(step_of, way) for way in (OURS, TORCH, FLOAT32)}
    rounds = [{way: p.submit(seconds).result()[1] for way, p in processes.items()} for _ in range(ROUNDS)]
    for process in processes.values():
        process.shutdown()
    for way in processes:
        used = statistics.median(each[way] for each in rounds)
        ratio = statistics.median(each[way] / each[OURS] for each in rounds)
        print(f"{way}: {used:.2f} s of the processor a step, {ratio:.2f} times ours", flush=True)


if __name__ == "__main__":
    sys.exit(main())
