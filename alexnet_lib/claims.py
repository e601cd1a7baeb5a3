"""§6 and all others, the ledger: every checkable claim of the paper, what was measured for it, and a verdict.

claims.toml says what the paper states; this module measures, compares and says what became of it:

    exact                   computed, and the same
    holds                   measured, and within the tolerance
    differs                 measured, and outside the tolerance
    refuted                 computed and not the same, or a bound that the paper states is broken
    shown at small scale    as "holds", on smaller data or nets than the claim is about
    not yet measured        could be measured here, but no record is kept yet; `how` has the command
    needs ILSVRC            not measured; `how` has the command

python -m alexnet_lib.claims                        prints the ledger
python -m alexnet_lib.claims --check                fails when a verdict is not the committed one, VERDICTS
python -m alexnet_lib.claims --accept               commits the verdicts as they are
python -m alexnet_lib.claims --csv F --json F       writes the ledger to files
"""

import argparse
import json
import math
import sys
import tomllib
from dataclasses import field
from importlib import import_module
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from .paths import REFERENCE
from .runs.fields import check, checked
from .runs.records import write_json

LEDGER = Path(__file__).with_name("claims.toml")
VERDICTS = REFERENCE / "verdicts.json"
COLUMNS = ["id", "section", "statement", "paper", "log2012", "standard_error", "measured", "n", "spread"]
COLUMNS += ["tolerance", "verdict", "notebook", "how"]
OPEN = ("not yet measured", "needs ILSVRC")
READERS = "readers"  # the section of what others have made of the paper
SLACK = 1e-9  # relative, for fractions that binary numbers do not hold exactly


@checked
class Claim:
    """A row of claims.toml. Paper, log and tolerance are in one unit, which the statement names.

    section: of the paper; "readers" for what readers' notes say of it, where `paper` holds the reader's value.
    relation: "=" where the paper states a value, "<=" and ">=" where it states a bound.
    tolerance: by how much a measured value may lie off; 0 for what can be computed exactly.
    scale: "small" where what we measure is smaller than what the claim is about.
    measure: module.function of this library that measures, called with `arguments`; none for what needs ILSVRC.
    how: the command, or the place, that repeats the measurement.
    images, error: where the claim is a difference of two error rates, on how many images they were counted, and about
        how large they are, in per cent.
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
    images: Annotated[int, Field(ge=1)] | None = None
    error: Annotated[float, Field(gt=0, lt=100)] | None = None

    @property
    def standard_error(self) -> float:
        """The binomial one of the paper's difference, in points, of two nets that err independently; else NaN."""
        if self.images is None or self.error is None:
            return math.nan
        return math.sqrt(2 * self.error * (100 - self.error) / self.images)


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
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("claim")
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path.name}: accepted are tables [[claim]]")
    for row in rows:
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

    What a claim names is a function of the library that gives a number, or these three. It raises FileNotFoundError
    where the record that it reads is not there.
    """
    if claim.measure is None:
        return math.nan, math.nan, 0
    module, _, function = claim.measure.rpartition(".")
    try:
        measured = getattr(import_module(f".{module}", __package__), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{claim.id}: measure = {claim.measure!r}: {error}") from None
    try:
        value = measured(*claim.arguments)
    except FileNotFoundError:
        return math.nan, math.nan, 0
    return (float(value), math.nan, 1) if isinstance(value, Real) else value


def verdict(claim: Claim, measured: float) -> str:
    """What became of a claim for which this was measured."""
    if math.isnan(measured):
        return "needs ILSVRC" if claim.measure is None else "not yet measured"
    margin = claim.tolerance + SLACK * abs(claim.paper)
    difference = measured - claim.paper
    within = {"=": abs(difference) <= margin, "<=": difference <= margin, ">=": difference >= -margin}[claim.relation]
    computed = claim.relation == "=" and claim.tolerance == 0
    if not within:
        return "refuted" if claim.scale == "paper" and (computed or claim.relation != "=") else "differs"
    if claim.scale == "small":
        return "shown at small scale"
    return "exact" if computed else "holds"


def _row(claim: Claim) -> dict:
    mean, spread, n = measure(claim)
    stated = {name: getattr(claim, name) for name in COLUMNS if hasattr(claim, name)}
    return stated | {"measured": mean, "n": n, "spread": spread, "verdict": verdict(claim, mean)}


def changes(table: pd.DataFrame, accepted: dict[str, str]) -> pd.DataFrame:
    """Where the verdicts of a ledger are not the accepted ones: id, accepted, now, and whether one has been lost.

    A row that is new, or was open, has lost nothing; one that is gone has.
    """
    now = dict(zip(table["id"], table["verdict"], strict=True))
    names = [*now, *(name for name in accepted if name not in now)]
    rows = [{"id": n, "accepted": accepted.get(n, "new"), "now": now.get(n, "gone")} for n in names]
    found = pd.DataFrame([row for row in rows if row["accepted"] != row["now"]], columns=["id", "accepted", "now"])
    return found.assign(lost=~found["accepted"].isin(["new", *OPEN]))


def accepted_verdicts(path: Path = VERDICTS) -> dict[str, str]:
    """The committed verdicts by the ids of their claims.

    Raises:
        FileNotFoundError, ValueError: they are not there, or are no verdicts.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}; `python -m alexnet_lib.claims --accept` writes it")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(verdict, str) for verdict in found.values()):
        raise ValueError(f"{path.name}: accepted is an object of claims' ids and their verdicts")
    return found


def main(arguments=None) -> int:
    """Print the ledger, and write it or compare it where asked; 1 where a verdict has been lost."""
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.claims", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--notebook", help="only the claims of this one, such as 03_lrn")
    parser.add_argument("--check", action="store_true", help="fail when a verdict is not the committed one")
    parser.add_argument("--accept", action="store_true", help="commit the verdicts as they are")
    for kind in ("csv", "json"):
        parser.add_argument(f"--{kind}", type=Path, help=f"write the ledger to this file, as {kind.upper()}")
    given = parser.parse_args(arguments)
    try:
        table = claims(given.notebook)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    shown = table.drop(columns=["statement", "how", "tolerance", "standard_error"])
    print(shown.to_string(index=False, na_rep="", float_format="{:.5g}".format))
    print("\n" + table["verdict"].value_counts().to_string(header=False))
    export(table, given.csv, given.json)
    try:
        if given.accept:
            kept = accepted_verdicts() if given.notebook and VERDICTS.is_file() else {}
            write_json(VERDICTS, kept | dict(zip(table["id"], table["verdict"], strict=True)))
        accepted = accepted_verdicts() if given.check else {}
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    if given.notebook:
        accepted = {name: verdict for name, verdict in accepted.items() if name in set(table["id"])}
    found = changes(table, accepted) if given.check else changes(table, {}).iloc[:0]
    if len(found):
        print("\nother verdicts than the committed ones:\n" + found.to_string(index=False))
    return int(found["lost"].any())


def export(table: pd.DataFrame, csv: Path | None = None, json: Path | None = None) -> None:
    """Write a ledger as CSV, as JSON (a list of rows, null where there is nothing), or both."""
    if csv is not None:
        table.to_csv(csv, index=False, lineterminator="\n")
    if json is not None:
        table.to_json(json, orient="records", indent=1, force_ascii=False)


class _Module(ModuleType):
    """`from alexnet_lib import claims` gives this module, as Python finds it first; it shall be the function, too."""

    __call__ = staticmethod(claims)


sys.modules[__name__].__class__ = _Module

if __name__ == "__main__":
    sys.exit(main())
