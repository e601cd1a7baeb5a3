"""§5: a run has one process, or one job, at a time; the others follow it. What "fast" asks of a process."""

import json
import os
import platform
import signal
import subprocess
import sys
import time

import pytest
import torch
from jupyter_client.manager import start_new_kernel

from alexnet_lib import ALLOCATOR, normalization, training
from alexnet_lib.files import AT_WORK, at_work, in_work
from alexnet_lib.runs import launch
from alexnet_lib.runs.bfloat16 import computes_in_bf16
from alexnet_lib.runs.job import JobFailed
from alexnet_lib.runs.records import load_checkpoint
from alexnet_lib.runs.settings import resolve
from alexnet_lib.training import build_net, train
from tests.small_runs import NAME, settings
from tests.test_training import done_epochs, lasting_files

SLOWLY = """
import time
from alexnet_lib import training
before = training.train_step
def slowly(*arguments):
    time.sleep({seconds})
    return before(*arguments)
training.train_step = slowly
"""


def wait_for(condition, seconds=120):
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def start(place, seconds, errors=None, **changes):
    """The folder of a run, and another process that is training it: slowly, if it is to be ended on the way."""
    given = settings(epochs=6, name="shared", **changes)
    config = place / "config.json"
    config.write_text(
        json.dumps({name: getattr(given, name) for name in ("dataset", "width", "epochs", "batch_size", "name")})
    )
    program = SLOWLY.format(seconds=seconds) + f"training.main([{str(config)!r}])"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=errors)
    return given, resolve(given, training.load_dataset(NAME)["train"]).folder, process


def test_ctrl_c_says_that_the_same_command_goes_on(place):
    given, folder, process = start(place, 0.5, errors=subprocess.PIPE)
    wait_for(lambda: done_epochs(folder) >= 1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130 and "Run it again, with the same settings, to go on." in said
    assert "Traceback" not in said and not in_work(folder)
    assert train(given).summary["epochs"] == 6


def test_a_run_that_another_process_trains_is_followed(place, monkeypatch):
    given, folder, process = start(place, 0.1)
    wait_for(lambda: done_epochs(folder) >= 1)
    monkeypatch.setattr(training, "_train_here", lambda *_: pytest.fail("trained twice"))
    seen = []
    record = train(given, on_epoch=lambda history: seen.append(int(history["epoch"].max())))
    assert record.summary["epochs"] == 6 and seen == sorted(set(seen)) and seen[-1] == 6
    assert process.wait() == 0 and not in_work(folder)


def test_when_the_other_process_is_killed_the_same_call_goes_on(place):
    given, folder, process = start(place, seconds=0.5)
    wait_for(lambda: done_epochs(folder) >= 1)
    process.kill()
    process.wait()
    assert (folder / AT_WORK).exists() and not in_work(folder)
    assert train(given).summary["epochs"] == 6
    assert not (folder / AT_WORK).exists()


def test_one_who_follows_is_told_of_the_end(place):
    given, folder, process = start(place, seconds=0.5)
    wait_for(lambda: done_epochs(folder) >= 1)

    def kill(history):
        process.kill()
        process.wait()

    with pytest.raises(JobFailed, match="the same call goes on from"):
        train(given, on_epoch=kill)


def test_a_second_process_at_the_same_run_is_refused(tmp_path):
    with at_work(tmp_path):
        assert in_work(tmp_path)
        with (
            pytest.raises(RuntimeError, match=f"another process is at work in .*: process {os.getpid()} on"),
            at_work(tmp_path),
        ):
            pass
    assert not in_work(tmp_path)


def test_a_closed_tab_stops_nothing_and_another_notebook_picks_the_history_up(place, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setenv("ALEXNET_PROGRESS", "none")
    given = settings(epochs=6, name="tab")
    folder = resolve(given, training.load_dataset(NAME)["train"]).folder
    manager, tab = start_new_kernel(kernel_name="python3")
    try:
        values = {name: getattr(given, name) for name in ("dataset", "width", "epochs", "batch_size", "name")}
        cell = f"from alexnet_lib.runs.settings import TrainSettings\ntraining.train(TrainSettings(**{values!r}))"
        tab.execute(SLOWLY.format(seconds=0.2) + cell)
        wait_for(lambda: done_epochs(folder) >= 1)
        tab.stop_channels()  # what closing a tab does
        seen = []
        record = train(given, on_epoch=lambda history: seen.append(int(history["epoch"].max())))
        assert seen[0] < 6 == seen[-1] == record.summary["epochs"]
    finally:
        manager.shutdown_kernel(now=True)


# ---------------------------------------------------------------------------------------------------------------- fast


def with_capabilities(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


def test_fast_computes_in_bfloat16_only_where_there_are_units_for_it(place, monkeypatch):
    store = training.load_dataset(NAME)["train"]
    for capabilities, precision in (({}, "fp32"), ({"avx512_f": True}, "fp32"), ({"amx_bf16": True}, "bf16")):
        with_capabilities(monkeypatch, **capabilities)
        assert computes_in_bf16("cpu") == (precision == "bf16")
        assert resolve(settings(speed="fast"), store).precision == precision
        assert resolve(settings(speed="fast", precision="bf16"), store).precision == "bf16"
        assert resolve(settings(), store).precision == "fp32"


def test_fast_compiles_the_normalisation(place):
    store = training.load_dataset(NAME)["train"]
    for speed in ("repeatable", "fast"):
        net = build_net(resolve(settings(speed=speed), store), 3)
        assert {net.norm1.compiled, net.norm2.compiled} == {speed == "fast"}


def test_fast_without_compiler_and_units_gives_the_same_weights(place, monkeypatch):
    with_capabilities(monkeypatch)
    monkeypatch.setattr(normalization, "_compiled_functions", lambda *_: None)
    for name, value in ALLOCATOR.items():
        monkeypatch.setenv(name, value)
    repeatable, fast = train(settings()), train(settings(speed="fast"))
    assert repeatable.folder != fast.folder and fast.config["speed"] == "fast"
    assert lasting_files(repeatable.folder)["history.csv"] == lasting_files(fast.folder)["history.csv"]
    weights = [load_checkpoint(record.folder)["net"]["fc7.weight"] for record in (repeatable, fast)]
    assert torch.equal(*weights)


TOUCHED_AGAIN = """
import resource
import numpy as np
from alexnet_lib import keep_memory

print(KEPT)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone can be told")
@pytest.mark.parametrize("kept", ["keep_memory()", "False"])
def test_memory_that_is_kept_is_not_fetched_again(kept):
    """Pages of an array that is as large as the one before it and freed, in a process without ALLOCATOR."""
    bare = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    program = [sys.executable, "-c", TOUCHED_AGAIN.replace("KEPT", kept)]
    said, pages = subprocess.run(program, env=bare, check=True, capture_output=True, text=True).stdout.split()
    assert said == str(kept != "False") and (int(pages) < 8) == (kept != "False")


def test_fast_is_done_in_a_process_with_the_allocator(place, monkeypatch):
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch.sys, "platform", "linux")
    monkeypatch.setattr(launch, "train_on_devices", lambda run, *_: run)
    assert train(settings(speed="fast")).speed == "fast"
    started = {}

    def popen(command, env, **options):
        started.update(env, session=options["start_new_session"])
        raise InterruptedError

    monkeypatch.setattr(launch.subprocess, "Popen", popen)
    with pytest.raises(InterruptedError):
        launch.torchrun(1, "training", "config.json")
    assert started["session"] and started.items() >= ALLOCATOR.items()


def test_the_command_starts_itself_again_with_the_allocator(place, monkeypatch):
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    started = []
    monkeypatch.setattr(launch.sys, "platform", "linux")
    monkeypatch.setattr(launch.os, "execve", lambda *call: started.append(call) or sys.exit(0))
    (place / "config.json").write_text(json.dumps({"dataset": NAME, "speed": "fast"}))
    with pytest.raises(SystemExit):
        training.main([str(place / "config.json")])
    ((program, command, environment),) = started
    assert program == sys.executable == command[0] and environment.items() >= ALLOCATOR.items()
