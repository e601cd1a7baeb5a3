"""§5, ending a run from outside so that it can go on: a signal is noted, and the loop writes a checkpoint."""

import signal

GO_ON = 75  # the code with which a run ends that was stopped and wants to go on; sysexits.h calls it EX_TEMPFAIL
STOP_SECONDS = 120  # for the checkpoints of a job
SIGNALS = ("SIGTERM", "SIGUSR1")  # of systems and schedulers, and what Slurm is asked to send before the time is up

asked: list[str] = []  # the signals that have come


class Stopped(Exception):
    """A signal has ended the run; what was trained is in its checkpoint."""


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
