"""The ledger: every checkable claim of the paper, what was measured for it, and a verdict.

claims.toml says what the paper states. This module measures, compares and gives one of the verdicts of MEANING.

python -m alexnet_lib.claims                        prints the ledger
python -m alexnet_lib.claims --only ID ID           prints these rows, with what they state
python -m alexnet_lib.claims --check                fails when a verdict of VERDICTS has moved; open rows may be filled
python -m alexnet_lib.claims --accept               commits the verdicts as they are
python -m alexnet_lib.claims --csv F --json F       writes the ledger to files
python -m alexnet_lib.claims --html F               writes it as a page that can be searched, filtered and sorted
"""

import argparse
import difflib
import math
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from numbers import Real
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.stats import t as student

from ..commands import ends_well
from ..experiments.evidence import by_chance
from ..files import read_json, write_file, write_json
from ..paths import REFERENCE, require_checkout
from ..runs.fields import check, checked
from ..runs.provenance import provenance
from .measures import MEASURES
from .page import page

LEDGER = Path(__file__).with_name("claims.toml")
VERDICTS = REFERENCE / "verdicts.json"
MEANING = {
    "exact": "no tolerance is needed, and the value is the same",
    "as built": "what the paper states was built that way, and is read back from the net, the recipe or the program",
    "holds": "all of the 95 % interval is within the tolerance or the bound, and zero effect is not in it",
    "shown at small scale": "as “holds”, on smaller data or nets than the claim is about",
    "undecided": "the 95 % interval holds the claim and also zero effect, or lies on both sides of an end of the "
    "tolerance or of a bound; or the row says why what was measured can't decide",
    "differs": "all of the interval is outside the tolerance or beyond the bound, and not “refuted”",
    "refuted": "no tolerance is needed and the value is another, or a bound that the paper states is broken",
    "not yet measured": "no record is kept yet; the row has the command",
    "needs ILSVRC": "not measured here; the row says how, mostly by a command",
    "out of reach": "it takes what isn't to be had: withdrawn pictures, hidden labels, others' entries, old machines",
}
COLUMNS = ["id", "section", "statement", "relation", "paper", "bound", "tolerance", "no_effect", "log2012"]
COLUMNS += ["standard_error"]
COLUMNS += ["measured", "n", "spread", "low", "high", "p", "verdict", "notebook", "how", "changed", "undecided"]
OPEN = ("not yet measured", "needs ILSVRC", "out of reach")
MET = ("exact", "as built", "holds", "shown at small scale")
SLACK = 1e-9  # relative, for fractions that have no exact binary form


@checked
class Claim:
    """A row of claims.toml. Paper, log and tolerance share a unit, which the statement names.

    section: of the paper, or "readers" for a reader's note; then `paper` holds the reader's value.
    relation: "=" where the paper states a value, "<=" and ">=" where it states a bound.
    tolerance: how far off a measured value may be; 0 for what can be computed exactly.
    scale: "small" where we measure on something smaller than the claim is about.
    measure: a name of MEASURES or a module.function of this library, called with `arguments`; none: it needs ILSVRC.
    out_of_reach: it takes what is not to be had any more, whatever one has; `how` says what.
    undecided: why what was measured can't decide, where its interval doesn't say so; "" where it can.
    bound: who sets the value of `paper`: the paper, or we, where its words leave it open ("several", "efficient").
    no_effect: of an effect, the value that means that there is none: 0 for a gain, 1 for a ratio.
    built: a constant that we transcribe and read back; nothing is measured.
    changed: how and why the way of measuring was changed after a measurement; "" where it was not.
    how: the command, or the place, that repeats the measurement.
    images, error: for a difference of two error rates, the number of images and roughly the rates, in per cent.
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
    bound: Literal["paper", "ours"] = "paper"
    no_effect: float | None = None
    built: bool = False
    changed: str = ""
    undecided: str = ""
    measure: str | None = None
    out_of_reach: bool = False
    arguments: list[str] = field(default_factory=list)
    images: Annotated[int, Field(ge=1)] | None = None
    error: Annotated[float, Field(gt=0, lt=100)] | None = None

    @property
    def standard_error(self) -> float:
        """The binomial standard error of a difference of two independent nets, in points; NaN for other claims."""
        if self.images is None or self.error is None:
            return math.nan
        return math.sqrt(2 * self.error * (100 - self.error) / self.images)


def claims(notebook: str | None = None, only: Sequence[str] = ()) -> pd.DataFrame:
    """The ledger, one row a claim, in the order of the paper; or one notebook's rows, or some by their ids.

    `measured` is the mean of n runs and `spread` their standard deviation, NaN where there is none; `low` and `high`
    are the ends of its 95 % interval. `p`, of an effect over three runs and more, is how likely a mean this far from no
    effect would be by chance, by Student's t; verdicts don't correct for the number of effects, the page says both.

    Raises:
        ValueError: a notebook without claims, an id that no row has, or a row of claims.toml that cannot be read.
        FileNotFoundError: the library was installed without the records that are measured.
    """
    require_checkout("the records that the ledger measures")
    rows = read_claims()
    shown = sorted({row.notebook for row in rows})
    if notebook is not None and notebook not in shown:
        raise ValueError(f"notebook = {notebook!r}; claims are in {', '.join(shown)}")
    if unknown := sorted({*only} - {row.id for row in rows}):
        close = difflib.get_close_matches(unknown[0], [row.id for row in rows], 3)
        raise ValueError(f"no row is called {', '.join(unknown)}; near to it are {', '.join(close) or 'none'}")
    rows = [row for row in rows if notebook in (None, row.notebook) and (row.id in only or not only)]
    table = [_row(claim) for claim in rows]
    return pd.DataFrame(table, columns=COLUMNS)


def read_claims(path: Path = LEDGER) -> list[Claim]:
    """The rows of claims.toml, each checked.

    Raises:
        ValueError: names the row, the value found there and the accepted ones.
    """
    found: dict[str, Claim] = {}
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("claim")
    except (ValueError, RecursionError) as error:
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
    """Mean, standard deviation and number of the measurements for a claim; NaN, NaN and 0 without a record.

    Raises:
        ValueError: `measure` names no function of the library.
    """
    if claim.measure is None:
        return math.nan, math.nan, 0
    module, _, function = claim.measure.rpartition(".")
    try:
        measured = MEASURES.get(claim.measure) or getattr(import_module(f"..{module}", __package__), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{claim.id}: measure = {claim.measure!r}: {error}") from None
    try:
        value = measured(*claim.arguments)
    except FileNotFoundError:
        return math.nan, math.nan, 0
    return (float(value), math.nan, 1) if isinstance(value, Real) else value


def interval(claim: Claim, mean: float, spread: float, n: int) -> tuple[float, float]:
    """The 95 % interval of what was measured: Student's t over n runs, binomial over one run's images, else NaN."""
    half = float(student.ppf(0.975, n - 1)) * spread / math.sqrt(n) if n > 1 else 1.96 * claim.standard_error
    return mean - half, mean + half


def verdict(claim: Claim, measured: float, low: float = math.nan, high: float = math.nan) -> str:
    """The verdict on a claim, given the measured value and the ends of its 95 % interval, NaN for none.

    A claim is met with the whole interval and differs with the whole interval, so neither side is the kinder.
    """
    if math.isnan(measured):
        without = "out of reach" if claim.out_of_reach else "needs ILSVRC"
        return without if claim.measure is None else "not yet measured"
    least = -math.inf if claim.relation == "<=" else claim.paper - claim.tolerance  # of what would be as claimed
    most = math.inf if claim.relation == ">=" else claim.paper + claim.tolerance
    slack = SLACK * abs(claim.paper)
    nothing = claim.no_effect is not None and low <= claim.no_effect <= high
    first, last = (measured if math.isnan(end) else end for end in (low, high))
    within = least - slack <= first and last <= most + slack
    beyond = last <= least or first >= most
    if claim.undecided or not beyond and (nothing or not within):
        return "undecided"
    computed = claim.relation == "=" and claim.tolerance == 0
    if not within:
        stated = claim.bound == "paper" and (computed or claim.relation != "=")
        return "refuted" if claim.scale == "paper" and stated else "differs"
    if claim.built:
        return "as built"
    if claim.scale == "small":
        return "shown at small scale"
    return "exact" if computed else "holds"


def p_alone(claim: Claim, mean: float, spread: float, n: int) -> float:
    """How likely a mean this far from no effect would be by chance, by Student's t; NaN for others and under 3 runs."""
    if claim.no_effect is None or n < 3:
        return math.nan
    with np.errstate(divide="ignore"):  # runs without a spread: infinitely far
        far = np.abs(mean - claim.no_effect) / (np.float64(spread) / math.sqrt(n))
    return float(2 * student.sf(far, n - 1))


def _row(claim: Claim) -> dict:
    mean, spread, n = measure(claim)
    low, high = interval(claim, mean, spread, n)
    stated = {name: getattr(claim, name) for name in COLUMNS if hasattr(claim, name)}
    found = {"measured": mean, "n": n, "spread": spread, "low": low, "high": high, "p": p_alone(claim, mean, spread, n)}
    return stated | found | {"verdict": verdict(claim, mean, low, high)}


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a ledger, sorted, with what was measured as a multiple of what the paper says.

    Further columns: kind: "effect", a mean over runs of which 0 would mean no effect; "value", any other measurement;
    "log", none, but a log of 2012; "none", neither. times, times_low, times_high: the measurement, or else the log, and
    the ends of its interval, over the paper's number; where that is 0, 1 for what is met or equal, else infinity.
    """
    effect = table["low"].notna() & (table["no_effect"] == 0)
    found = {"effect": effect, "value": table["measured"].notna(), "log": table["log2012"].notna()}
    kind = np.select(list(found.values()), list(found), "none")
    paper = table["paper"].astype(float).where(table["paper"] != 0)
    empty = np.where(table["verdict"].isin(MET) | (table["measured"] == table["paper"]), 1.0, math.inf)
    times = {"times": table["measured"].fillna(table["log2012"]) / paper}
    times["times"] = times["times"].where(paper.notna(), empty)
    times |= {f"times_{end}": table[end] / paper for end in ("low", "high")}
    shown = table.assign(kind=kind, **times)
    order = shown["times"].where(kind != "effect", -table["measured"])
    return shown.assign(order=order).sort_values("order", kind="stable").drop(columns="order")


def changes(table: pd.DataFrame, accepted: dict[str, str]) -> pd.DataFrame:
    """The verdicts of a ledger that aren't the accepted ones: id, accepted, now, and whether one has been lost.

    A new row, or one that was open, has lost nothing; one that is gone has.
    """
    now = dict(zip(table["id"], table["verdict"], strict=True))
    names = [*now, *(name for name in accepted if name not in now)]
    rows = [{"id": n, "accepted": accepted.get(n, "new"), "now": now.get(n, "gone")} for n in names]
    found = pd.DataFrame([row for row in rows if row["accepted"] != row["now"]], columns=["id", "accepted", "now"])
    return found.assign(lost=~found["accepted"].isin(["new", *OPEN]))


def accepted_verdicts() -> dict[str, str]:
    """The committed verdicts by claim id, from VERDICTS.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or holds something else.
    """
    if not VERDICTS.is_file():
        raise FileNotFoundError(f"no {VERDICTS}; `python -m alexnet_lib.claims --accept` writes it")
    found = read_json(VERDICTS)
    if not all(isinstance(verdict, str) for verdict in found.values()):
        raise ValueError(f"{VERDICTS}: accepted is an object of claim ids and verdicts")
    return found


def made() -> str:
    """What a page says of its origin: version, commit and day."""
    commit, parts = provenance()["commit"], []
    with suppress(PackageNotFoundError):
        parts.append(f"version {version('alexnet-walkthrough')}")
    parts += [f"commit {commit[:12]}"] if commit else []
    return ", ".join([*parts, f"{datetime.now(UTC):%d %B %Y}".lstrip("0")])


def main(arguments=None) -> int:
    """Print the ledger; write or compare it if asked. Returns 1 when a verdict has been lost."""
    parser = argparse.ArgumentParser(prog="python -m alexnet_lib.claims", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--notebook", help="only this one's claims, such as 03_lrn")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="only these rows, with what they state")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--check", action="store_true", help="fail when a committed verdict that wasn't open has moved")
    either.add_argument("--accept", action="store_true", help="commit the verdicts as they are")
    for kind in ("csv", "json", "html"):
        parser.add_argument(f"--{kind}", type=Path, help=f"write the ledger to this file, as {kind.upper()}")
    given = parser.parse_args(arguments)
    with ends_well(parser, "files are as they were or whole"):
        table = claims(given.notebook, given.only)
        if table.empty:
            raise ValueError(f"{given.notebook} shows none of {', '.join(given.only)}")
        part = bool(given.notebook or given.only)
        now = dict(zip(table["id"], table["verdict"], strict=True))
        if given.accept:
            kept = accepted_verdicts() if part and VERDICTS.is_file() else {}
            write_json(VERDICTS, kept | now)
        accepted = accepted_verdicts() if given.check else now
        stated = ["id", "section", "relation", "paper", "tolerance", "bound", "log2012"]
        shown = table[[*stated, "measured", "n", "spread", "verdict", "notebook"]]
        print(shown.to_string(index=False, na_rep="", float_format="{:.5g}".format))
        for row in table.to_dict("records") if given.only else ():
            print(f"\n{row['id']}: {row['statement']}\n{row['verdict']}: {row['undecided'] or MEANING[row['verdict']]}")
        print("\n" + table["verdict"].value_counts().to_string(header=False))
        if not part:  # a correction for rows that were chosen would be none
            print(f"\n{by_chance(table['p'], 'no effect')}")
        if given.csv:
            write_file(given.csv, table.to_csv(index=False, lineterminator="\n").encode())
        if given.json:
            # to_json would round to ten digits
            rows = table.astype(object).where(table.notna(), None).to_dict("records")
            write_json(given.json, rows)
        if given.html:
            write_file(given.html, page(table, MEANING, made=made()).encode())
        found = changes(table, {name: v for name, v in accepted.items() if name in now or not part})
        if len(found):
            print("\nother verdicts than the committed ones:\n" + found.to_string(index=False))
        return int(found["lost"].any())
