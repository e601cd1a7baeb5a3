"""The ledger as a page that can be searched, filtered and sorted, with nothing to fetch and nothing to install."""

import math
from collections.abc import Callable
from html import escape
from pathlib import Path
from string import Template

import pandas as pd

from ..experiments.common import holm
from ..experiments.evidence import by_chance

TEMPLATE = Path(__file__).with_name("page.html")
# column of claims(), its heading, its share of the width in per cent: on a page of its own
WIDE = [("section", "§", 8.5), ("statement", "claim", 25.5), ("relation", "is", 2.5), ("paper", "stated", 7.5)]
WIDE += [("tolerance", "±", 5.5), ("bound", "bound", 5.5), ("log2012", "log of 2012", 6.5)]
WIDE += [("measured", "measured", 12.5), ("n", "n", 4), ("verdict", "verdict", 9.5), ("notebook", "notebook", 12.5)]
# and in a narrow one, where relation, tolerance, bound and runs stand beside their numbers
NARROW = [("section", "§", 10.5), ("statement", "claim", 27), ("paper", "stated", 13), ("log2012", "log of 2012", 8)]
NARROW += [("measured", "measured", 14), ("verdict", "verdict", 11), ("notebook", "notebook", 16.5)]
IN_FULL = {"tolerance": "tolerance", "bound": "whose bound"}  # headings where there is room, beside each value
NUMBERS = ("paper", "tolerance", "log2012", "measured", "n")
MENUS = ("section", "verdict", "bound", "notebook")
ROUNDING = 1e-12
RELATIONS = {"=": "", "<=": "≤ ", ">=": "≥ "}
WORDS = {
    "the program": "cuda-convnet, with which the nets were trained in 2012; its source was released in 2025",
    "run 145, run 147, …": "nets that it trained, of which files and logs were released with it",
    "photographs": "of ImageNet: 200 classes at 64 pixels a side (Tiny ImageNet), or ten at 73 (Imagenette)",
    "built-in pictures": "generated ones of 24 classes, which come with the project",
    "lossy copy of CIFAR-10": "the 60,000 small photographs of CIFAR-10, compressed once more as JPEG",
    "half-width, quarter-width": "nets with that share of the paper's channels and units in every layer",
    "ten views": "five crops and their mirror images, whose probabilities are averaged; one view: the centre",
    "published initial weights": "those in the program's layer files; scaled ones: as today, by the number of inputs",
    "top-1, top-5": "a picture counts as an error if its class isn't the net's best answer, or among its five best",
    "points": "differences of two error rates in per cent",
}
READERS = "readers"  # the section of what others have made of the paper


def page(
    table: pd.DataFrame, meaning: dict[str, str], link: Callable[[str], str] | None = None, shown=WIDE, made: str = ""
) -> str:
    """A whole HTML document.

    Args:
        table: as `claims()` gives it.
        meaning: what each verdict means.
        link: the address of a notebook, given its name; none where there is no place to go.
        shown: the columns, WIDE or NARROW.
        made: of which version, and when.
    """
    table = table.assign(bound=[whose(row) for row in table.to_dict("records")], corrected=holm(table["p"]))
    heads = {name: heading for name, heading, _ in shown}
    menus = [_menu(name, heads[name], list(table[name].drop_duplicates())) for name in MENUS if name in heads]
    counts = table["verdict"].value_counts()
    rules = [f"<dt>{escape(v)} ({counts.get(v, 0)})</dt><dd>{escape(what)}</dd>" for v, what in meaning.items()]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        made=escape(f" ({made})" if made else ""),
        words="\n".join(f"<dt>{escape(word)}</dt><dd>{escape(what)}</dd>" for word, what in WORDS.items()),
        effects=by_chance(table["p"], "no effect"),
        rules="\n".join(rules),
        menus="\n".join(menus),
        widths="".join(f'<col style="width: {width}%">' for _, _, width in shown),
        head="".join(
            f'<th scope="col"{_look(name)}><button type="button">{heading}</button></th>'
            for name, heading in heads.items()
        ),
        rows="\n".join(_row(row, link, heads) for row in table.to_dict("records")),
    )


def part(*arguments) -> str:
    """The ledger alone, to be set into another page, in NARROW; takes what `page` takes."""
    return page(*arguments, shown=NARROW).split("<!-- the ledger begins -->")[1].split("<!-- the ledger ends -->")[0]


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: at most so many digits, whole numbers whole, "" for none.

    A rounding error, which differs between processors, is "below 1e-12".
    """
    if pd.isna(value):
        return ""
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    if abs(value) < ROUNDING:
        return f"below {ROUNDING:g}"
    if abs(value) < 1e-4:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.{digits}g}"


def stated(row: dict) -> str:
    """What the paper states, as a bound where it is one, with our tolerance; and whether the bound is ours."""
    tolerance = f" ± {number(row['tolerance'])}" if row["tolerance"] else ""
    ours = " (our bound)" if row["bound"] == "ours" else ""
    return f"{RELATIONS[row['relation']]}{number(row['paper'])}{tolerance}{ours}"


def whose(row: dict) -> str:
    """Who sets the value that a measurement is held against."""
    return "reader" if row["section"] == READERS and row["bound"] == "paper" else row["bound"]


def words(row: dict) -> dict[str, str]:
    """A row of the ledger for people: what stands in a column of its own.

    relation: the sign between what is measured and the value that is stated: =, ≤ or ≥. tolerance: "" where nothing may
    be missed or exceeded. bound: see `whose`. n: how many were measured, "" for none.
    """
    return {
        "relation": RELATIONS[row["relation"]].strip() or "=",
        "paper": number(row["paper"]),
        "tolerance": number(row["tolerance"]) if row["tolerance"] else "",
        "bound": whose(row),
        "log2012": number(row["log2012"]),
        "measured": with_spread(row),
        "n": str(row["n"]) if row["n"] else "",
    }


def measured(row: dict) -> str:
    """What was measured, with the number of runs where there are several."""
    return f"{with_spread(row)} ({row['n']} runs)" if row["n"] > 1 else with_spread(row)


def with_spread(row: dict) -> str:
    """A mean over runs with their standard deviation, to the second digit of it, which more would belie.

    One run, and a share of runs, have none.
    """
    if not row["n"] > 1 or math.isnan(row["spread"]):
        return number(row["measured"])
    decimals = _decimals(row)
    return f"{row['measured']:,.{decimals}f} ± {row['spread']:,.{decimals}f}"


def _decimals(row: dict) -> int:
    return max(0, 1 - math.floor(math.log10(row["spread"]))) if row["spread"] > 0 else 2


def interval(row: dict) -> str:
    """The 95 % interval as a line of its own, to the digits of its mean, "" for none; of an effect, p by chance too."""
    if math.isnan(row["low"]):
        return ""
    ends = [f"{row[end]:,.{_decimals(row)}f}" for end in ("low", "high")]
    chance = ""
    if not math.isnan(row["p"]):
        alone, corrected = (f"{p:.2g}" if p >= 0.001 else "below 0.001" for p in (row["p"], row["corrected"]))
        chance = f"<br>p {alone}; corrected {corrected}"
    return f"<br><small>95 %: {ends[0]} to {ends[1]}{chance}</small>"


def _look(column: str) -> str:
    return ' class="number"' if column in NUMBERS else ' class="relation"' if column == "relation" else ""


def _menu(name: str, heading: str, values: list[str]) -> str:
    options = "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)
    return f'<select name="{name}" aria-label="{heading}"><option value="">{heading}: all</option>{options}</select>'


def _row(row: dict, link: Callable[[str], str] | None, heads: dict[str, str]) -> str:
    name, place = escape(row["id"]), escape(row["notebook"])
    if link:
        place = f'<a href="{escape(link(row["notebook"]))}">{place}</a>'
    remarks = {"Changed after a measurement": row["changed"], "Undecided, because": row["undecided"]}
    remarks = "".join(f"<p>{what}: {escape(text)}</p>" for what, text in remarks.items() if text)
    shown = words(row) | {
        "section": escape(row["section"]),
        "statement": f'{escape(row["statement"])}<br><a class="name" href="#{name}">{name}</a>',
        "verdict": f'<span class="verdict">{escape(row["verdict"])}</span>',
        "notebook": f"{place}<details><summary>how</summary><code>{escape(row['how'])}</code>{remarks}</details>",
    }
    if "relation" not in heads:  # NARROW
        shown |= {"paper": stated(row), "measured": measured(row)}
    shown["measured"] += interval(row)
    cells = []
    for column, heading in heads.items():
        value = f' data-value="{row[column]}"' if column in NUMBERS else ""
        if column == "paper" and "relation" in heads:
            value += f' data-relation="{RELATIONS[row["relation"]]}"'
        cells.append(f'<td data-name="{IN_FULL.get(column, heading)}"{_look(column)}{value}>{shown[column]}</td>')
    chosen = "".join(f' data-{menu}="{escape(row[menu])}"' for menu in MENUS)
    return f'<tr id="{name}"{chosen}>{"".join(cells)}</tr>'
