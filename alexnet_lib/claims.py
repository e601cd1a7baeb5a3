"""§6 and all others, the ledger: every checkable claim of the paper, what was measured for it, and a verdict.

claims.toml says what the paper states; this module measures, compares and says what became of it:

    exact                   computed, and the same
    holds                   measured, and within the tolerance
    differs                 measured, and outside the tolerance
    refuted                 computed and not the same, or a bound that the paper states is broken
    shown at small scale    as "holds", on smaller data or nets than the claim is about
    needs ILSVRC            not measured; `how` has the command

python -m alexnet_lib.claims    prints the ledger
"""

import argparse
import math
import sys
import tomllib
from dataclasses import field
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from .settings import check, checked

LEDGER = Path(__file__).with_name("claims.toml")
COLUMNS = ["id", "section", "statement", "paper", "log2012", "measured", "n", "spread"]
COLUMNS += ["tolerance", "verdict", "notebook", "how"]
SLACK = 1e-9  # relative, for fractions that binary numbers do not hold exactly


@checked
class Claim:
    """A row of claims.toml. Paper, log and tolerance are in one unit, which the statement names.

    relation: "=" where the paper states a value, "<=" and ">=" where it states a bound.
    tolerance: by how much a measured value may lie off; 0 for what can be computed exactly.
    scale: "small" where what we measure is smaller than what the claim is about.
    measure: module.function of this library that measures, called with `arguments`; none for what needs ILSVRC.
    how: the command, or the place, that repeats the measurement.
    """

    id: str
    section: str
    statement: str
    paper: float
    notebook: str
    how: str
    log2012: float | None = None
    relation: Literal["=", "<=", ">="] = "="
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    scale: Literal["paper", "small"] = "paper"
    measure: str | None = None
    arguments: list[str] = field(default_factory=list)


def claims(notebook: str | None = None) -> pd.DataFrame:
    """The ledger, one row a claim, in the order of the paper.

    `measured` is the mean of n runs and `spread` their standard deviation; NaN where nothing was measured, and a
    spread of NaN where there is one run or nothing random. `paper`, `log2012` and `tolerance` are in the same unit.

    Args:
        notebook: only the rows that this notebook shows; all unless given.

    Raises:
        ValueError: a notebook without claims, or a row of claims.toml that cannot be read.
    """
    rows = read_claims()
    shown = sorted({row.notebook for row in rows})
    if notebook is not None and notebook not in shown:
        raise ValueError(f"notebook = {notebook!r}; claims are in {', '.join(shown)}")
    table = [_row(claim) for claim in rows if notebook in (None, claim.notebook)]
    return pd.DataFrame(table, columns=COLUMNS)


def read_claims(path: Path = LEDGER) -> list[Claim]:
    """What claims.toml states, each row checked.

    Raises:
        ValueError: names the row, what was found there and what is accepted.
    """
    found: dict[str, Claim] = {}
    for row in tomllib.loads(path.read_text())["claim"]:
        name = row.get("id", "a row without an id")
        try:
            claim = check(Claim, row)
        except ValueError as error:
            raise ValueError(f"{path.name}, {name}: {error}") from None
        if name in found:
            raise ValueError(f"{path.name}: two rows have the id {name}")
        found[name] = claim
    return list(found.values())


def measure(claim: Claim) -> tuple[float, float, int]:
    """Mean, standard deviation and number of the measurements for a claim; NaN, NaN and 0 where there is none.

    What a claim names is a function of the library that gives a number, or these three.
    """
    if claim.measure is None:
        return math.nan, math.nan, 0
    module, function = claim.measure.rsplit(".", 1)
    value = getattr(import_module(f".{module}", __package__), function)(*claim.arguments)
    return (float(value), math.nan, 1) if isinstance(value, Real) else value


def verdict(claim: Claim, measured: float) -> str:
    """What became of a claim for which this was measured."""
    if math.isnan(measured):
        return "needs ILSVRC"
    margin = claim.tolerance + SLACK * abs(claim.paper)
    difference = measured - claim.paper
    within = {"=": abs(difference) <= margin, "<=": difference <= margin, ">=": difference >= -margin}[claim.relation]
    computed = claim.relation == "=" and claim.tolerance == 0
    if not within:
        return "refuted" if computed or claim.relation != "=" and claim.scale == "paper" else "differs"
    if claim.scale == "small":
        return "shown at small scale"
    return "exact" if computed else "holds"


def _row(claim: Claim) -> dict:
    mean, spread, n = measure(claim)
    stated = {name: getattr(claim, name) for name in COLUMNS if hasattr(claim, name)}
    return stated | {"measured": mean, "n": n, "spread": spread, "verdict": verdict(claim, mean)}


def main(arguments=None) -> None:
    """Print the ledger."""
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.claims", description=__doc__.splitlines()[0])
    parser.add_argument("--notebook", help="only the claims of this one, such as 03_lrn")
    given = parser.parse_args(arguments)
    try:
        table = claims(given.notebook)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    shown = table.drop(columns=["statement", "how", "tolerance"])
    print(shown.to_string(index=False, na_rep="", float_format="{:.5g}".format))
    print("\n" + table["verdict"].value_counts().to_string(header=False))


if __name__ == "__main__":
    sys.exit(main())
