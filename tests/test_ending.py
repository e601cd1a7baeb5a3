"""Ended is ended: whatever signal comes, a command says in two lines what is kept and how to go on, and is gone."""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from alexnet_lib import training
from alexnet_lib.commands import ENDING, Interrupted, ends_well, heard, undivided
from alexnet_lib.data.unfinished import make_store
from alexnet_lib.dataset import load_dataset, prepare
from alexnet_lib.figures import curves
from alexnet_lib.files import at_work
from alexnet_lib.notebook import live_curves
from alexnet_lib.paths import REPOSITORY
from alexnet_lib.runs import launch, resolve, stopping
from alexnet_lib.runs.folder import follow
from alexnet_lib.runs.jupyter import kernel_environment
from alexnet_lib.runs.records import load_checkpoint
from alexnet_lib.runs.stopping import Stopped, interruptible
from alexnet_lib.training import train
from tests.small_runs import NAME, settings
from tests.test_dataset import contents
from tests.test_preparation import fill

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has other signals")
ENDED = 10  # seconds
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")

# Children of one process, so that torch is imported once. Each is in the midst of its work when the signal comes: a
# preparation in its second chunk, a training in a step that takes minutes.
STOPPED = """
import json, os, signal, sys, time
from pathlib import Path
import torchvision.transforms.v2
from alexnet_lib import dataset, training
from alexnet_lib.data import preparation
place, names = Path(sys.argv[1]), sys.argv[2:]
decode, train_step, began = preparation.decode, training.train_step, {}
def slow_decode(data):
    time.sleep(0.4)
    return decode(data)
def slow_step(run, state, x, labels):
    if state.epoch == 1:
        (run.folder / "slow").touch()
        time.sleep(300)
    return train_step(run, state, x, labels)
def begin(what, name):
    if child := os.fork():
        return child
    try:
        os.dup2(os.open(place / f"{what} {name}", os.O_CREAT | os.O_WRONLY), 2)
        if what == "prepare":
            preparation.decode, preparation.CHUNK_SMALL = slow_decode, 2
            dataset.main(["prepare", str(place / "pictures"), str(place / f"store {name}"), "--size", "8"])
        else:
            training.train_step = slow_step
            training.main([str(place / f"{name}.json")])
    except SystemExit as end:
        os._exit(end.code)
    finally:
        os._exit(1)
def at_work(what, name):
    if what == "prepare":
        return (place / f".store {name}.partial" / "state.npz").exists()
    return (place / "runs" / "train" / name / "slow").exists()
jobs = [(what, name) for what in ("prepare", "train") for name in names]
children = {begin(*job): job for job in jobs}
while not all(at_work(*job) for job in jobs):
    time.sleep(0.05)
for child, (_, name) in children.items():
    os.kill(child, getattr(signal, name))
sent, found = time.monotonic(), []
while children:
    child, status = os.wait()
    what, name = children.pop(child)
    found.append([what, name, os.waitstatus_to_exitcode(status), time.monotonic() - sent])
print(json.dumps(found))
"""


def test_signals_end_a_preparation_and_a_training_with_two_lines(place):
    """And the same call goes on."""
    source = fill(place / "pictures", 24)
    for name in SIGNALS:
        given = {"dataset": NAME, "width": 0.05, "batch_size": 12, "device": "cpu", "epochs": 2, "name": name}
        (place / f"{name}.json").write_text(json.dumps(given))
    command = [sys.executable, "-c", STOPPED, str(place), *SIGNALS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for what, name, code, seconds in json.loads(done.stdout.splitlines()[-1]):
        said = (place / f"{what} {name}").read_text()
        first, second = said.strip().splitlines()
        assert code == (75 if what == "train" and name != "SIGINT" else 130) and seconds < ENDED, (what, name, said)
        if what == "prepare":
            assert first.endswith(
                f"Stopped while {place / f'store {name}'} was made; what is prepared so far is kept there."
            )
            assert second == "Run it again to go on."
        else:
            by = "" if name == "SIGINT" else f" by {name}"
            assert f"Stopped{by}: the last whole checkpoint is of the end of epoch 1, in {place}" in first
            assert second == "Run it again, with the same settings, to go on."
    whole = contents(prepare(source, place / "whole", 8, 1, False).folder)
    for name in SIGNALS:
        assert contents(prepare(source, place / f"store {name}", 8, 1, False).folder) == whole
    ends = [load_checkpoint(train(settings(epochs=2, name=name)).folder)["net"] for name in (*SIGNALS, "unbroken")]
    assert all((end[layer] == ends[-1][layer]).all() for end in ends for layer in end)


LOADS = """
import importlib.abc, os, signal, sys
class Comes(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name in ("numpy", "pandas", "torch") and "alexnet_lib" in sys.modules:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Comes())
"""


@pytest.mark.parametrize("module", ["training", "dataset", "walkthrough", "claims", "runs.records", "live"])
@pytest.mark.parametrize("name", SIGNALS)
def test_a_command_that_still_loads_ends_in_two_lines(tmp_path, module, name):
    (tmp_path / "sitecustomize.py").write_text(LOADS.format(number=int(getattr(signal, name))))
    command = [sys.executable, "-m", f"alexnet_lib.{module}", "a"]
    own = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=own, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 130 and done.stdout == ""
    assert done.stderr == "\nStopped: nothing was begun.\nGive the same command again to begin.\n"


def test_what_nohup_has_silenced_stays_silent_and_handlers_come_back():
    parser, before = argparse.ArgumentParser("p"), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        term = signal.getsignal(signal.SIGTERM)
        with ends_well(parser):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != term
        assert signal.getsignal(signal.SIGTERM) == term
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_can_be_called_in_a_thread(capsys):
    """Which may not touch signals."""
    codes = []

    def call():
        try:
            with ends_well(argparse.ArgumentParser("p")):
                raise ValueError("what was wrong")
        except SystemExit as end:
            codes.append(end.code)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert codes == [2] and capsys.readouterr().err == "p: what was wrong\n"


@pytest.mark.parametrize("in_walkthrough", [True, False])
def test_a_job_outlives_the_kernel_of_a_reader_and_not_that_of_a_walkthrough(place, monkeypatch, in_walkthrough):
    given = []

    def torchrun(*_, outlives, **__):
        given.append(outlives)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "torchrun", torchrun)
    monkeypatch.setattr(launch, "in_notebook", lambda: True)
    if in_walkthrough:
        for name, value in kernel_environment().items():
            monkeypatch.setenv(name, value)
    with pytest.raises(KeyboardInterrupt, match=r"Stopped: there is no checkpoint yet\.\nRun it again"):
        train(settings(devices=2))
    assert given == [not in_walkthrough]


class Interrupts:
    """A signal comes while Python puts this away, where what its handler raises is dropped."""

    def __init__(self, name: str = "SIGINT"):
        self.number = getattr(signal, name)

    def __del__(self):
        signal.raise_signal(self.number)


def interrupt_and_wait(*_) -> None:
    """And it is heard by one who waits."""
    late = threading.Event()
    timer = threading.Timer(ENDED, late.set)
    timer.start()
    try:
        Interrupts()
        late.wait()
    finally:
        timer.cancel()
        assert not late.is_set(), "the interruption was lost, or not heard while it waited"


def test_an_interruption_that_python_drops_is_heard():
    """It was lost where it came while a figure was drawn, and the run went on."""
    before = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), heard():
        interrupt_and_wait()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and sys.unraisablehook is before


def test_an_interruption_is_heard_where_python_is_slow_to_drop_it(monkeypatch):
    """On a busy machine it was raised again before Python was through with the first, and dropped once more."""
    starts = threading.Thread.start

    def start_slowly(thread):
        starts(thread)
        time.sleep(0.2)

    with pytest.raises(KeyboardInterrupt), heard():
        monkeypatch.setattr(threading.Thread, "start", start_slowly)
        interrupt_and_wait()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_dropped_at_the_end_of_a_block_is_raised_in_it():
    within = False
    with pytest.raises(KeyboardInterrupt):
        try:
            with heard():
                Interrupts()
        except KeyboardInterrupt:
            within = True
            raise
    assert within


def test_a_ctrl_c_that_comes_meanwhile_is_not_one_more():
    with heard():
        with pytest.raises(KeyboardInterrupt):
            Interrupts()
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.1)


def test_other_errors_that_python_drops_are_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))

    class Fails:
        def __del__(self):
            raise ValueError

    with heard():
        Fails()
    assert told == [ValueError]


@pytest.mark.parametrize("name", ["SIGINT", *ENDING])
def test_a_command_hears_what_python_drops(capsys, name):
    with pytest.raises(SystemExit) as end, ends_well(argparse.ArgumentParser("p")):
        Interrupts(name)
        time.sleep(ENDED)
    assert end.value.code == 130 and "p: Stopped: what was finished is kept." in capsys.readouterr().err


def test_a_training_a_preparation_and_one_who_follows_hear_what_python_drops(place, monkeypatch):
    run = settings(epochs=2)
    with pytest.raises(Interrupted, match="Stopped: there is no checkpoint yet"), monkeypatch.context() as patch:
        patch.setattr(training, "train_step", interrupt_and_wait)
        train(run)
    with pytest.raises(Interrupted, match="the last whole checkpoint is of the end of epoch 1"):
        train(run, on_epoch=interrupt_and_wait)
    stores = load_dataset(NAME)
    followed = resolve(run, stores["train"])
    with at_work(followed.folder), pytest.raises(Interrupted, match="another process trains this run, and goes on"):
        follow(followed, stores, interrupt_and_wait)
    with pytest.raises(Interrupted, match="Stopped while .* was made; nothing is left"):
        make_store(place / "store", interrupt_and_wait, "nothing is left")


@pytest.fixture
def noted(monkeypatch):
    """Signals are noted, as in a training that is a program of its own."""
    monkeypatch.setattr(stopping, "asked", [])
    numbers = [getattr(signal, name) for name in (*ENDING, "SIGUSR1", "SIGALRM")]
    before = {number: signal.getsignal(number) for number in numbers}
    stopping.note_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_noted_signal_that_python_drops_stops_a_run(noted, tmp_path):
    with pytest.raises(Stopped, match="Stopped by SIGTERM: there is no checkpoint yet"), interruptible(tmp_path):
        Interrupts("SIGTERM")
        time.sleep(ENDED)


def test_a_checkpoint_is_not_torn_because_a_signal_came_while_it_was_read(noted, place, monkeypatch):
    """Who was told so deleted a good run."""

    def stop(history):
        raise KeyboardInterrupt

    run = settings(epochs=2)
    with pytest.raises(Interrupted):
        train(run, on_epoch=stop)
    load = torch.load

    def load_slowly(*given, **options):
        monkeypatch.setattr(torch, "load", load)
        signal.raise_signal(signal.SIGTERM)
        return load(*given, **options)

    monkeypatch.setattr(torch, "load", load_slowly)
    with pytest.raises(Stopped, match="Stopped by SIGTERM: the last whole checkpoint is of the end of epoch 1"):
        train(run)


def test_a_checkpoint_that_is_being_written_is_finished_first(place, monkeypatch):
    save = torch.save

    def save_slowly(*given):
        signal.raise_signal(signal.SIGINT)
        save(*given)

    monkeypatch.setattr(torch, "save", save_slowly)
    with pytest.raises(Interrupted, match="Stopped: the last whole checkpoint is of the end of epoch 1"):
        train(settings(epochs=3))


def test_curves_are_drawn_to_their_end_and_a_second_ctrl_c_does_not_wait(place, monkeypatch):
    """matplotlib made another error of the first, which a notebook showed, and the run went on."""
    drawn, draw = [], curves.learning_curves

    def draw_slowly(*given):
        signal.raise_signal(signal.SIGINT)
        drawn.append(draw(*given))
        return drawn[-1]

    monkeypatch.setenv("ALEXNET_PROGRESS", "bar")
    monkeypatch.setattr(curves, "learning_curves", draw_slowly)
    with pytest.raises(Interrupted, match="Stopped: the last whole checkpoint is of the end of epoch 1"):
        train(settings(epochs=3), on_epoch=live_curves(3))
    assert len(drawn) == 1
    with pytest.raises(KeyboardInterrupt), undivided():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        drawn.append("the second waited too")
    assert len(drawn) == 1 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
