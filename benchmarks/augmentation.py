"""§4.1 says that augmentation is computationally free: what share of a step of the full-size net does it take?

On a CPU, for each number of threads, the time to make a batch with crops, reflections and colours, against the time of
an update on it; both want the same cores, so the batch is made before the step and the share must be at most 6 %. On a
GPU the batches are made ahead by another thread, and at least 90 % of their making must be hidden behind the steps.
The pictures are noise, 256 × 256 in memory; no data set is needed.

--keep    also writes results/reference/augmentation-cost/, from which the ledger reads
"""

import argparse
import sys

import pandas as pd
import torch

BATCH, STEPS = 128, 2


def measured(device: str, threads: int) -> dict:
    """Seconds of a batch with and without augmentation and of a step, and how much of the making is hidden."""
    from alexnet_lib import alexnet
    from alexnet_lib.runs.settings import TrainSettings, resolve
    from alexnet_lib.study.probes import batch_seconds, hidden_share, random_store, timeline

    torch.set_num_threads(threads)
    store = random_store(BATCH * (STEPS + 4))
    given = {"dataset": "embedded", "recipe": "paper", "width": 1.0, "image_size": 224, "batch_size": BATCH}
    run = resolve(TrainSettings(device=device, devices=1, **given), store)
    net = alexnet("paper", seed=0).to(run.device, memory_format=torch.channels_last)
    spans = timeline(run, net, store, STEPS, in_thread=run.device != "cpu")
    length = (spans["end"] - spans["start"]).groupby(spans["what"]).median()
    row = {"device": run.device, "threads": threads, "batch_size": BATCH, "step": length["step"]}
    row |= {augmentation: batch_seconds(run, store, augmentation, 3) for augmentation in ("all", "crops", "none")}
    return row | {"hidden": hidden_share(spans)}


def main(arguments=None) -> None:
    from alexnet_lib.files import write_json
    from alexnet_lib.paths import REFERENCE
    from alexnet_lib.runs.provenance import provenance
    from alexnet_lib.runs.records import write_table

    parser = argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--keep", action="store_true", help="write the reference")
    given = parser.parse_args(arguments)
    table = pd.DataFrame([measured(given.device, threads) for threads in given.threads])
    for row in table.to_dict("records"):
        shares = [f"{row[name] / row['step']:.2%}" for name in ("all", "none")]
        print(f"{row['device']}, {row['threads']} threads: a step takes {row['step']:.3f} s", end="; ")
        print(f"making a batch {shares[0]} of that, without augmentation {shares[1]}; hidden {row['hidden']:.0%}")
    if given.keep:
        folder = REFERENCE / "augmentation-cost"
        folder.mkdir(exist_ok=True)
        write_table(folder / "cost.csv", table.round(4).to_dict("records"))
        threads = " ".join(map(str, given.threads))
        command = f"python benchmarks/augmentation.py --device {given.device} --threads {threads} --keep"
        write_json(folder / "summary.json", {**provenance(), "command": command})


if __name__ == "__main__":
    sys.exit(main())
