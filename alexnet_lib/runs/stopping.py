"""§5, ending a run from outside so that it can go on: a signal is noted, and the loop writes a checkpoint."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .records import whereabouts

GO_ON = 75  # the code with which a run ends that was stopped and wants to go on; sysexits.h calls it EX_TEMPFAIL
STOP_SECONDS = 120  # for the checkpoints of a job
SIGNALS = ("SIGTERM", "SIGUSR1")  # of systems and schedulers, and what Slurm is asked to send before the time is up

asked: list[str] = []  # the signals that have come


class Stopped(Exception):
    """A signal has ended the run; what was trained is in its checkpoint."""


class Interrupted(KeyboardInterrupt):
    """Somebody has stopped a run. A notebook shows its two lines, what is kept and how to go on, and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


@contextmanager
def interruptible(folder: Path) -> Iterator[None]:
    """Have Ctrl-C, and JupyterLab's stop button, say what is left of the run in this folder.

    Raises:
        Interrupted: in place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        left = whereabouts(folder).partition("; ")[0]
        raise Interrupted(f"Stopped: {left}.\nRun it again, with the same settings, to go on.") from None


def note_signals() -> None:
    """Have SIGNALS noted in `asked`, and nothing else. For the main thread of a program that looks there."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: asked.append(signal.Signals(number).name))


def stop_if_asked() -> None:
    """
    Raises:
        Stopped: a signal has come.
    """
    if asked:
        raise Stopped(f"stopped by {asked[0]}")
