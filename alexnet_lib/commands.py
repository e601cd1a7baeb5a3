"""What the commands of this library have in common: an error ends them with a line, a signal with two."""

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .files import AtWork

ENDING = ("SIGTERM", "SIGHUP")  # what a system sends to a process that should end, and a terminal that is closed


class Interrupted(KeyboardInterrupt):
    """Somebody has stopped work. A notebook shows its two lines, what is kept and how to go on, and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def on_signals(names, handler) -> dict:
    """Have a handler called for signals, where the system has them; not for those that nohup has silenced.

    For the main thread, which alone can; gives the handlers of before, by number.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return {number: signal.signal(number, handler) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}


def interrupt_on_signals(names=ENDING) -> dict:
    """Have signals raise KeyboardInterrupt with their name, as Ctrl-C does without; what was begun is put away.

    The first does; the others are ignored from then on, for they would cut that off.
    """

    def interrupt(number, frame):
        ignore_signals(names)
        raise KeyboardInterrupt(signal.Signals(number).name)

    return on_signals(names, interrupt)


def ignore_signals(names=("SIGINT", *ENDING)) -> None:
    """From now on nothing cuts this process off while it puts away what was begun, save SIGKILL."""
    on_signals(names, signal.SIG_IGN)


def in_two_lines(stop: BaseException, kept: str = "what was finished is kept") -> str:
    """What ended a command, for people: what is kept, and how to go on; its own two lines where it has them."""
    said = str(stop)
    if "\n" in said:
        return said
    by = said.partition("stopped")[2]  # a signal's name, where there was one
    return f"Stopped{by}: {kept}.\nGive the same command again to go on."


@contextmanager
def ends_well(parser: argparse.ArgumentParser, kept: str = "what was finished is kept", also=()) -> Iterator[None]:
    """Have errors that people can mend, `also` these, end a command with a line, and signals with two.

    They say what is `kept`, and how to go on.
    """
    before = interrupt_on_signals()
    try:
        yield
    except (ValueError, OSError, ImportError, ArithmeticError, AtWork, *also) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt as stop:
        parser.exit(130, f"\n{parser.prog}: {in_two_lines(stop, kept)}\n")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
