"""§6.1 calls it inefficient to compare 4096 real numbers, and short binary codes efficient: by how much?

One thread looks for the six nearest of 10,000 images to 200 questions: by a matrix product of their 4096 numbers, and
by counting the bits in which codes differ. The searches run in turn; times are medians over the rounds, of the
processor, so that other programs do not count. What is searched is noise, on which the time does not depend.

--keep    also writes results/reference/search-speed/, from which the ledger reads
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

KNOWN, QUERIES, UNITS, BITS, ROUNDS = 10_000, 200, 4096, (64, 256), 7


def seconds_of(search: Callable) -> float:
    began = time.process_time()
    search()
    return time.process_time() - began


def measured(known: int = KNOWN, queries: int = QUERIES, rounds: int = ROUNDS) -> list[dict]:
    """For each length of a code the seconds of both searches, and how many times as fast the codes are."""
    from alexnet_lib.experiments.trained import by_product
    from alexnet_lib.qualitative import hamming_neighbours

    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    numbers = [generator.standard_normal((count, UNITS), np.float32) for count in (queries, known)]
    searches: dict[int, Callable] = {0: lambda: by_product(*numbers)}
    for bits in BITS:
        codes = [generator.integers(0, 256, (count, bits // 8), np.uint8).view(np.uint64) for count in (queries, known)]
        searches[bits] = lambda codes=codes: hamming_neighbours(*codes)
    for search in searches.values():  # a first call is slower
        search()
    taken = [{bits: seconds_of(search) for bits, search in searches.items()} for _ in range(rounds)]
    return [row_of(bits, taken) for bits in BITS]


def row_of(bits: int, taken: list[dict[int, float]]) -> dict:
    """A length of a code, from the seconds of each round by number of bits; 0: the numbers."""
    row = {"bits": bits, "numbers": np.median([each[0] for each in taken])}
    row |= {"codes": np.median([each[bits] for each in taken])}
    return row | {"times": np.median([each[0] / each[bits] for each in taken])}


def main(arguments=None) -> None:
    from alexnet_lib.files import write_json
    from alexnet_lib.paths import REFERENCE
    from alexnet_lib.runs.provenance import provenance
    from alexnet_lib.runs.records import write_table

    parser = argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="write the reference")
    given = parser.parse_args(arguments)
    rows = measured()
    for row in rows:
        print(
            f"{UNITS} numbers {1000 * row['numbers']:.0f} ms, {row['bits']} bits {1000 * row['codes']:.0f} ms", end=""
        )
        print(f": {row['times']:.1f} times as fast")
    if given.keep:
        folder = REFERENCE / "search-speed"
        folder.mkdir(exist_ok=True)
        write_table(folder / "seconds.csv", pd.DataFrame(rows).round(4).to_dict("records"))
        write_json(folder / "summary.json", {**provenance(), "command": "python benchmarks/search.py --keep"})


if __name__ == "__main__":
    sys.exit(main())
