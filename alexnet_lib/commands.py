"""What the commands of this library have in common: an error ends them with a line, a signal with two."""

import _thread
import argparse
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType

from . import while_it_loads
from .files import AtWork

ENDING = ("SIGTERM", "SIGHUP")  # what a system sends to a process that should end, and a terminal that is closed
AGAIN_SECONDS = 0.01  # until an interruption that Python has dropped is raised again


class Interrupted(KeyboardInterrupt):
    """Somebody has stopped work. A notebook shows its two lines, what is kept and how to go on, and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


def begin() -> None:
    """From now on signals do what they did before the library was loaded for a command."""
    for name in ("SIGINT", *ENDING):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is while_it_loads:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


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


@contextmanager
def heard(*kinds: type[BaseException]) -> Iterator[None]:
    """Within it, what a signal raises and Python drops is raised again: a KeyboardInterrupt, or one of these kinds.

    A signal's handler raises wherever the program happens to be, and where that is `__del__` or the callback of a weak
    reference, Python drops what is raised. Drawing a figure spends a good part of its time there, so JupyterLab's stop
    button sometimes did nothing while one was drawn.
    """
    before, kinds, senders = sys.unraisablehook, (KeyboardInterrupt, *kinds), []

    def again(dropped) -> None:
        if isinstance(dropped.exc_value, kinds) and threading.current_thread() is threading.main_thread():
            senders.append(_raise_soon(dropped.exc_value, again.__code__))
        else:
            before(dropped)

    sys.unraisablehook = again
    try:
        yield
        for sender in senders:
            sender.join(1)  # so that it is raised here, and not after the block
    finally:
        if sys.unraisablehook is again:
            sys.unraisablehook = before


def _raise_soon(stop: BaseException, callback: CodeType) -> threading.Thread:
    """Raise it in this thread, the main one, after the callback that we are in; here it would be dropped again."""
    before, waiting, due = signal.getsignal(signal.SIGINT), [stop], [True]

    def raise_it(number, frame):
        if any(each.f_code is callback for each, _ in traceback.walk_stack(frame)):
            due.append(True)  # on a busy machine the callback may last longer than AGAIN_SECONDS: once more
        else:
            signal.signal(number, before)
            raise waiting.pop().with_traceback(None)

    def send():
        while waiting and signal.getsignal(signal.SIGINT) is raise_it:  # Ctrl-C may come first, or another stop
            time.sleep(AGAIN_SECONDS)
            if waiting and due:
                due.clear()
                _interrupt_main()

    signal.signal(signal.SIGINT, raise_it)
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    return sender


def _interrupt_main() -> None:
    if hasattr(signal, "pthread_kill"):  # also wakes a thread that waits
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


@contextmanager
def undivided() -> Iterator[None]:
    """A block that Ctrl-C does not cut in two: a first one takes effect at the block's end, a second at once.

    For drawing: C++ code that is interrupted may fail with an error of its own, which IPython shows before it goes on.
    For saving: some of what torch calls there drops any error, and a whole checkpoint is worth the wait.
    """
    came, before = [], signal.getsignal(signal.SIGINT)

    def wait(number, frame):
        came.append(number)
        signal.signal(number, before)

    handlers = on_signals(("SIGINT",), wait)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


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
    begin()
    before = interrupt_on_signals()
    try:
        with heard():
            yield
    except (ValueError, OSError, ImportError, ArithmeticError, AtWork, *also) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt as stop:
        parser.exit(130, f"\n{parser.prog}: {in_two_lines(stop, kept)}\n")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
