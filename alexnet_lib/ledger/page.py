"""The ledger as a page that can be searched, filtered and sorted, with nothing to fetch and nothing to install."""

import math
from collections.abc import Callable
from html import escape
from pathlib import Path
from string import Template

import pandas as pd

TEMPLATE = Path(__file__).with_name("page.html")
# column of claims(), its heading, its share of the width in per cent
SHOWN = [("section", "§", 8), ("statement", "claim", 32), ("paper", "paper", 9), ("log2012", "log of 2012", 9)]
SHOWN += [("measured", "measured", 13), ("verdict", "verdict", 11), ("notebook", "notebook and command", 18)]
NUMBERS = ("paper", "log2012", "measured")
MENUS = ("section", "verdict", "notebook")
ROUNDING = 1e-12
RELATIONS = {"=": "", "<=": "≤ ", ">=": "≥ "}


def page(table: pd.DataFrame, meaning: dict[str, str], link: Callable[[str], str] | None = None) -> str:
    """A whole HTML document.

    Args:
        table: as `claims()` gives it.
        meaning: what each verdict means.
        link: the address of a notebook, given its name; none where there is no place to go.
    """
    menus = [_menu(name, list(table[name].drop_duplicates())) for name in MENUS]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        rules="\n".join(f"<dt>{escape(v)}</dt><dd>{escape(what)}</dd>" for v, what in meaning.items()),
        menus="\n".join(menus),
        widths="".join(f'<col style="width: {width}%">' for _, _, width in SHOWN),
        head="".join(
            f'<th scope="col"{_number(name)}><button type="button">{heading}</button></th>'
            for name, heading, _ in SHOWN
        ),
        rows="\n".join(_row(row, link) for row in table.to_dict("records")),
    )


def part(*arguments) -> str:
    """The ledger alone, to be set into another page; takes what `page` takes."""
    return page(*arguments).split("<!-- the ledger begins -->")[1].split("<!-- the ledger ends -->")[0]


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


def measured(row: dict) -> str:
    """What was measured; a mean to the second digit of its spread, which more digits would belie."""
    if not row["n"] > 1:
        return number(row["measured"])
    decimals = max(0, 1 - math.floor(math.log10(row["spread"]))) if row["spread"] > 0 else 2
    return f"{row['measured']:,.{decimals}f} ± {row['spread']:,.{decimals}f} ({row['n']} runs)"


def interval(row: dict) -> str:
    """The 95 % interval as a line of its own, "" where there is none."""
    if math.isnan(row["low"]):
        return ""
    low, high = number(row["low"], 2), number(row["high"], 2)
    return f"<br><small>95 %: {low} to {high}</small>"


def _number(column: str) -> str:
    return ' class="number"' if column in NUMBERS else ""


def _menu(name: str, values: list[str]) -> str:
    heading = next(heading for column, heading, _ in SHOWN if column == name).split(" and ")[0]
    options = "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)
    return f'<select name="{name}" aria-label="{heading}"><option value="">{heading}: all</option>{options}</select>'


def _row(row: dict, link: Callable[[str], str] | None) -> str:
    place = escape(row["notebook"])
    if link:
        place = f'<a href="{escape(link(row["notebook"]))}">{place}</a>'
    changed = f"<p>Changed after a measurement: {escape(row['changed'])}</p>" if row["changed"] else ""
    shown = {
        "section": escape(row["section"]),
        "statement": escape(row["statement"]),
        "paper": stated(row),
        "log2012": number(row["log2012"]),
        "measured": measured(row) + interval(row),
        "verdict": f'<span class="verdict">{escape(row["verdict"])}</span>',
        "notebook": f"{place}<details><summary>how</summary><code>{escape(row['how'])}</code>{changed}</details>",
    }
    cells = []
    for name, heading, _ in SHOWN:
        value = f' data-value="{row[name]}"' if name in NUMBERS else ""
        cells.append(f'<td data-name="{heading}"{_number(name)}{value}>{shown[name]}</td>')
    chosen = "".join(f' data-{name}="{escape(row[name])}"' for name in MENUS)
    return f'<tr id="{escape(row["id"])}"{chosen}>{"".join(cells)}</tr>'
