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
_looking: list[bool] = []  # one for each block in which somebody looks there


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
    """Have SIGNALS noted in `asked` where somebody looks there, and raise Stopped elsewhere. For a main thread."""

    def note(number, frame):
        asked.append(signal.Signals(number).name)
        if not _looking:
            raise Stopped(f"stopped by {asked[0]}")

    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), note)


@contextmanager
def looking() -> Iterator[None]:
    """Within it `asked` is looked at where the run can go on from, so a signal waits until then."""
    _looking.append(True)
    try:
        yield
    finally:
        _looking.pop()
