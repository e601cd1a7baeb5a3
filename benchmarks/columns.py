"""Two columns on two processes of one thread each, against the whole net in one process of two threads.

The same step of the full-size net, on the same images, in turns, in one run; printed is the median of the ratios, and
the share of its time that a process of the pair spends in the exchange of maps and gradients (waiting for the other
included).
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

BATCH, ROUNDS, WARM_UP = 32, 7, 2


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def stepper(net, images, labels):
    """A function that makes one update."""
    import torch.nn.functional as F

    from alexnet_lib import PaperSGD

    optimizer = PaperSGD(net.parameters(), lr=0.0001)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    return step


def timed_exchange(columns) -> list[float]:
    """Make the columns' collectives note their seconds in the list that is returned."""
    spent = []

    def timed(collective):
        def call(*arguments, **options):
            spent.append(seconds(lambda: collective(*arguments, **options)))

        return call

    columns._all_gather, columns._reduce_scatter = timed(columns._all_gather), timed(columns._reduce_scatter)
    return spent


def pair() -> None:
    """What each of the two processes does."""
    import torch
    import torch.distributed as dist

    from alexnet_lib import alexnet, columns
    from alexnet_lib.runs.job import join

    torch.manual_seed(0)
    with join(columns=2, device="cpu") as job:
        job.batch = BATCH
        net = alexnet("paper", seed=0).to(memory_format=torch.channels_last)
        images = (torch.rand(BATCH, 3, 224, 224) * 255 - 128).contiguous(memory_format=torch.channels_last)
        labels = torch.arange(BATCH)
        exchange = timed_exchange(columns)
        own_step, whole_step = stepper(columns.own_column(net, job), images, labels), stepper(net, images, labels)
        rounds = []
        for number in range(WARM_UP + ROUNDS):
            torch.set_num_threads(1)
            dist.barrier()
            exchange.clear()
            both = seconds(own_step)
            share = sum(exchange) / both
            dist.barrier()
            if job.leader:  # the other sleeps at the barrier
                torch.set_num_threads(2)
                alone = seconds(whole_step)
                rounds += [(both, alone, share)] if number >= WARM_UP else []
            dist.barrier()
        if job.leader:
            both, alone, share = (statistics.median(column) for column in zip(*rounds, strict=True))
            ratio = statistics.median(a / b for a, b, _ in rounds)
            print(f"two processes {both:.2f} s, one of two threads {alone:.2f} s, ratio {ratio:.2f}", end="; ")
            print(f"{share:.0%} of the pair's time in the exchange")


if __name__ == "__main__":
    if "LOCAL_RANK" in os.environ:
        pair()
    else:
        argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0]).parse_args()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
        sys.exit(subprocess.run(command, env={"OMP_NUM_THREADS": "2"} | os.environ).returncode)
