"""Progress: a bar for a person who watches, a few lines in a log, nothing in a test."""

import io
import json
import os
import sys
from math import inf

from tqdm import tqdm
from tqdm.auto import tqdm as notebook_tqdm

PIPE = "progress: "  # a process that another one watches starts its messages with this
STYLES = ("bar", "lines", "none", PIPE)
PIPE_SECONDS = 0.3
IN_NOTEBOOK = any(kind.__module__ == "tqdm.notebook" for kind in notebook_tqdm.__mro__)


def progress_style() -> str:
    """ "bar", "lines" or "none": $ALEXNET_PROGRESS, or a bar in JupyterLab and terminals and lines elsewhere.

    JupyterLab sets JPY_SESSION_NAME for the kernels that it starts; Papermill, nbclient and nbconvert do not.
    """
    chosen = os.environ.get("ALEXNET_PROGRESS", "auto")
    if chosen in STYLES:
        return chosen
    if chosen != "auto":
        raise ValueError(f"ALEXNET_PROGRESS = {chosen!r}; accepted are auto, bar, lines, none")
    watched = "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty()
    return "bar" if watched else "lines"


class _Lines(tqdm):
    """A bar that prints each of its states as a line of its own."""

    def display(self, *_, **__) -> None:
        print(str(self), flush=True)


class _Pipe(tqdm):
    """A bar that sends its states to the process that started this one."""

    def display(self, *_, **__) -> None:
        tell({"n": self.n, "total": self.total, "initial": self.initial, "postfix": self.postfix or ""})

    def update(self, n: float = 1) -> None:
        if not super().update(n) and self.n == self.total:  # told at once; what follows may take minutes
            self.refresh()


def tell(state: dict) -> None:
    """Send a message to the process that watches this one."""
    print(PIPE + json.dumps(state), flush=True)


def say(bar, line: str, only_to_logs: bool = False) -> None:
    """A line for a person, above a bar of `progress_bar`. only_to_logs: it says no more than the bar does."""
    style = progress_style()
    if style == PIPE:
        tell({"line": line, "only_to_logs": only_to_logs})
    elif style == "lines":
        print(line, flush=True)
    elif style == "bar" and (sys.stderr.isatty() or not only_to_logs):
        bar.write(line)


def progress_bar(
    total: int, description: str, unit: str, enabled: bool = True, initial: int = 0, says: bool = False
) -> tqdm:
    """A tqdm bar in the style of the place: call .update(n), .set_postfix_str(text) and .close().

    says: whoever wants it says lines of its own, so that in a log the bar adds none.
    """
    style = progress_style() if enabled else "none"
    options = {"total": total, "desc": description, "unit": unit, "initial": initial}
    # tqdm writes a line break to its file when it closes, and its monitor would tell every step of a slow run
    told = options | {"file": io.StringIO(), "maxinterval": inf}
    if style == PIPE:
        return _Pipe(mininterval=PIPE_SECONDS, miniters=1, **told)
    if style != "lines" or says:
        watched = style == "bar"
        options |= {"display": False} if IN_NOTEBOOK else {}
        # dynamic_ncols: the words wrap in a notebook, and leave the bar its width
        bar = notebook_tqdm(disable=not watched, leave=False, dynamic_ncols=True, **options)
        if watched and IN_NOTEBOOK:  # the words are what a reopened tab and the saved file show, where the bar is dead
            words = f"({description}: run this cell again to see how far it is)"
            from IPython.display import display

            display(bar.container._repr_mimebundle_() | {"text/plain": words}, raw=True)
        return bar
    words = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}{postfix}"
    return _Lines(mininterval=0, miniters=max(1, total // 5), bar_format=words, **told)
