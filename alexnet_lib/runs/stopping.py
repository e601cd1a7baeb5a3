"""§5, ending a run from outside so that it can go on: a signal is noted, and the loop writes a checkpoint."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..commands import ENDING, Interrupted, begin, heard, on_signals
from .processes import WARNING
from .records import whereabouts

IN_TIME = 5  # seconds for the checkpoint of a run that is to end; systems kill it after ten

asked: list[str] = []  # the signals that have come
_looking: list[bool] = []  # one for each block in which somebody looks there


class Stopped(BaseException):
    """A signal has ended the run; what was trained is in its checkpoint.

    No Exception, as KeyboardInterrupt is none: one that comes while a checkpoint is read does not mean that it is torn.
    """


@contextmanager
def interruptible(folder: Path) -> Iterator[None]:
    """Have a signal, Ctrl-C and JupyterLab's stop button say what is left of the run in this folder.

    Raises:
        Interrupted: in place of KeyboardInterrupt.
        Stopped: with its two lines.
    """
    try:
        with heard(Stopped):
            yield
    except (Stopped, KeyboardInterrupt) as stop:
        in_time(0)
        kind = Stopped if isinstance(stop, Stopped) else Interrupted
        how, left = f"Stopped by {asked[0]}" if asked else "Stopped", whereabouts(folder).partition("; ")[0]
        raise kind(f"{how}: {left}.\nRun it again, with the same settings, to go on.") from None
    finally:
        in_time(0)


def note_signals() -> None:
    """Have signals noted in `asked` where somebody looks there, and raise Stopped elsewhere. For a main thread.

    One who looks too late, because a step takes long, is stopped where he is IN_TIME seconds after a signal that asks
    for the end; the last checkpoint is what is left.
    """

    def note(number, frame):
        asked.append(signal.Signals(number).name)
        if not _looking:
            raise Stopped(f"stopped by {asked[0]}")
        if asked[-1] != WARNING:
            in_time(IN_TIME)

    def late(number, frame):
        raise Stopped

    begin()
    on_signals((*ENDING, WARNING), note)
    on_signals(("SIGALRM",), late)


@contextmanager
def looking() -> Iterator[None]:
    """Within it `asked` is looked at where the run can go on from, so a signal waits until then."""
    _looking.append(True)
    try:
        yield
    finally:
        _looking.pop()


def in_time(seconds: float) -> None:
    """Be stopped in so many seconds after a signal, where the system has alarms; 0: no more."""
    if asked and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
