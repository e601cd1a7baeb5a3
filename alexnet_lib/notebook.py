"""What notebooks show beside figures: small tables of settings, facts and verdicts, and a run in progress."""

import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from html import escape
from itertools import cycle

import ipywidgets
import pandas as pd
from IPython.display import HTML, DisplayHandle, Image, display
from matplotlib.figure import Figure

from .commands import undivided
from .figures import curves as figures
from .ledger import page
from .ledger.claims import MEANING, claims
from .progress import progress_style

# top-1 / top-5 on the test images of ILSVRC-2010 (§6, Table 1), and in the log of the run behind it
PAPER_ERRORS = {
    "1 view": {"paper, ILSVRC-2010": "39.0 / 18.3", "log of run 145-2010": "39.02 / 18.30"},
    "10 views": {"paper, ILSVRC-2010": "37.5 / 17.0", "log of run 145-2010": "37.47 / 17.00"},
}


def effective(settings) -> HTML:
    """The values in force, one parameter a row."""
    return facts(dataclasses.asdict(settings))


def facts(rows: dict) -> HTML:
    """Names and values as a table; whole numbers with thousands separated."""
    values = [f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for v in rows.values()]
    return plain(pd.DataFrame({"": list(rows), " ": values}))


def ledger(rows: str | pd.DataFrame) -> HTML:
    """Rows of the ledger of claims: what the paper says, what was measured, the verdict, and what such verdicts mean.

    rows: a notebook's by its name, or some as `claims()` gives them.
    """
    rows = claims(rows) if isinstance(rows, str) else rows
    means = "; ".join(
        f"<i>{name}</i>: {escape(what)}" for name, what in MEANING.items() if (rows["verdict"] == name).any()
    )
    return HTML(f"{plain(readable(rows)).data}\n<p>{means}.</p>")


def browse(table: pd.DataFrame) -> HTML | None:
    """The ledger with its commands, in a box to scroll; where somebody watches, menus select what is shown.

    table: as `claims()` gives it.
    """

    def chosen(**by: str) -> HTML:
        wanted = {name: value for name, value in by.items() if value != "all"}
        rows = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)] if wanted else table
        return HTML(f'<div style="max-height: 32em; overflow: auto">{plain(readable(rows, "how")).data}</div>')

    lists = {name: ["all", *table[name].drop_duplicates()] for name in ("section", "verdict", "notebook")}
    return _controlled(chosen, {name: ipywidgets.Dropdown(options=o, description=name) for name, o in lists.items()})


def readable(table: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Rows of the ledger for people; more: further columns, such as "how".

    bound: who set the value that is held against: the paper, a reader of it, or we ("ours"), where its words leave it
    open. A mean over n runs has its standard deviation.
    """
    rows = []
    for row in table.to_dict("records"):
        given = {"§": row["section"], "claim": row["statement"], **page.words(row), "verdict": row["verdict"]}
        rows.append(given | {name: row[name] for name in more})
    return pd.DataFrame(rows).rename(columns={"log2012": "log of 2012"})


def plain(table: pd.DataFrame) -> HTML:
    """A table without row numbers; whole numbers with thousands separated; words to the left, numbers to the right."""
    whole = {name: "{:,}".format for name, kind in table.dtypes.items() if pd.api.types.is_integer_dtype(kind)}
    html = table.rename_axis(columns=None).to_html(index=False, border=0, formatters=whole, escape=True)
    # JupyterLab's own rule aligns each cell to the right, and only a cell's own style is stronger
    sides = cycle("right" if pd.api.types.is_numeric_dtype(kind) else "left" for kind in table.dtypes)
    return HTML(re.sub("<(t[hd])>", lambda cell: f'<{cell[1]} style="text-align: {next(sides)}">', html))


def photographic(figure: Figure, quality: int = 75) -> Image:
    """A figure of pictures as JPEG: a quarter of the bytes, in a notebook that is kept with its outputs."""
    data = io.BytesIO()
    figure.savefig(data, format="jpeg", pil_kwargs={"quality": quality})
    return Image(data.getvalue(), format="jpeg", alt=figure.alt)


def slider(draw: Callable[..., Figure], **choices: tuple[Sequence, object]) -> Figure | None:
    """A figure with a slider for each of its arguments where somebody watches; otherwise the figure at their start.

    Args:
        draw: takes the arguments by name and returns a figure.
        choices: for each argument the values to choose from, and the one to start with.
    """
    controls = {
        name: ipywidgets.SelectionSlider(options=values, value=start, description=name)
        for name, (values, start) in choices.items()
    }
    return _controlled(draw, controls)


def _controlled(draw: Callable, controls: dict[str, ipywidgets.Widget]) -> object:
    """What `draw` gives for the controls' values, drawn again when one moves, where somebody watches.

    The picture is an output of its own beside the controls: they die with the kernel, it stays in the saved notebook.
    """

    def drawn():
        return draw(**{name: control.value for name, control in controls.items()})

    if progress_style() != "bar":
        return drawn()
    bundle = ipywidgets.VBox(list(controls.values()))._repr_mimebundle_()
    display(bundle | {"text/plain": f"(run this cell to choose: {', '.join(controls)})"}, raw=True)
    picture = display(drawn(), display_id=True)
    for control in controls.values():
        control.observe(lambda _change: picture.update(drawn()), "value")
    return None


def error_table(record, photographs) -> HTML:
    """Top-1 / top-5 validation errors in per cent: the paper, the 2012 log, our run on photographs, and this run."""
    own = {"our run, ten classes of photographs": photographs, "this run": record}
    rows = []
    for views, printed in PAPER_ERRORS.items():
        errors = {name: run.summary["metrics"]["val"][views] for name, run in own.items()}
        measured = {name: f"{100 * e['top1']:.1f} / {100 * e['top5']:.1f}" for name, e in errors.items()}
        rows.append({"": views, **printed, **measured})
    return plain(pd.DataFrame(rows))


def live_curves(classes: int) -> Callable[[pd.DataFrame], None] | None:
    """A callback that redraws the learning curves after every epoch, where somebody watches."""
    if progress_style() != "bar":
        return None
    handle: list[DisplayHandle] = []

    def draw(history: pd.DataFrame) -> None:
        with undivided():
            figure = figures.learning_curves(history, classes)
            if handle:
                handle[0].update(figure)
            else:
                handle.append(display(figure, display_id=True))

    return draw
