"""One progress bar for a person who watches, sparse lines in a log, nothing in a test."""

import os
import sys

from tqdm import tqdm
from tqdm.auto import tqdm as notebook_tqdm

STYLES = ("bar", "lines", "none")


def progress_style() -> str:
    """ "bar", "lines" or "none": $ALEXNET_PROGRESS, or a bar in JupyterLab and terminals and lines elsewhere.

    JupyterLab sets JPY_SESSION_NAME for the kernels that it starts; Papermill, nbclient and nbconvert do not.
    """
    chosen = os.environ.get("ALEXNET_PROGRESS", "auto")
    if chosen in STYLES:
        return chosen
    if chosen != "auto":
        raise ValueError(f"ALEXNET_PROGRESS = {chosen!r}; accepted are auto, {', '.join(STYLES)}")
    watched = "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty()
    return "bar" if watched else "lines"


class _Lines:
    """A file for tqdm that prints each state of the bar as a line of its own."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), flush=True)

    def flush(self) -> None:
        sys.stdout.flush()


def progress_bar(total: int, description: str, unit: str, enabled: bool = True, initial: int = 0) -> tqdm:
    """A tqdm bar in the style of the place: call .update(n), .set_postfix_str(text) and .close()."""
    style = progress_style() if enabled else "none"
    options = {"total": total, "desc": description, "unit": unit, "initial": initial}
    if style != "lines":
        return notebook_tqdm(disable=style == "none", leave=False, **options)
    return tqdm(
        file=_Lines(),
        miniters=max(1, total // 5),
        mininterval=0,
        maxinterval=float("inf"),  # tqdm's monitor would turn every step of a slow run into a line
        bar_format="{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed}{postfix}",
        **options,
    )
