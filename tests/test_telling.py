"""§5: what a person sees of a run of days, and how it is ended so that it can go on."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
import torch
from jupyter_client.manager import start_new_kernel

from alexnet_lib import evaluation, normalization, training
from alexnet_lib.paths import REPOSITORY
from alexnet_lib.runs import job, launch, settings, stopping, telling
from alexnet_lib.runs.job import JobFailed
from alexnet_lib.runs.processes import GO_ON
from alexnet_lib.runs.records import load_checkpoint
from alexnet_lib.runs.stopping import Stopped
from alexnet_lib.training import train
from tests import small_runs
from tests.test_launch import SLOWLY, start, wait_for
from tests.test_processes import alive
from tests.test_training import done_epochs, lasting_files


def test_a_line_tells_of_each_epoch(place, monkeypatch, capsys):
    monkeypatch.setenv("ALEXNET_PROGRESS", "lines")
    record = train(small_runs.settings(epochs=3))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {number} of 3" for number in (1, 2, 3)]
    loss = record.history.query("epoch == 2 and split == 'train'")["loss"].item()
    for part in (
        f"loss {loss:.3f}",
        "in validation",
        "errors",
        "top-5",
        "rate",
        "images/s",
        "waiting for data",
        "left",
    ):
        assert part in lines[1]
    assert "left" not in lines[2] and "on the GPU" not in lines[1]


def test_a_finished_run_says_which_record_is_read_how_to_train_anew_and_what_it_warned_of(place, monkeypatch, capsys):
    """And a run that goes on says from where; it warns once."""
    monkeypatch.setenv("ALEXNET_PROGRESS", "lines")
    monkeypatch.setattr(training, "STALL_STEPS", 60)
    given = small_runs.settings(initialisation="printed", learning_rate=0.001, epochs=20)

    def press_stop(history):
        if history["epoch"].max() == 16:
            raise KeyboardInterrupt

    with pytest.warns(training.StallWarning, match="not begun to learn"), pytest.raises(stopping.Interrupted):
        train(given, on_epoch=press_stop)
    capsys.readouterr()
    record = train(given)
    went_on = capsys.readouterr().out.splitlines()
    folder = record.folder
    assert went_on[0] == f"This run goes on from the end of epoch 16, as its checkpoint in {folder} has it."
    assert went_on[1].startswith("epoch 17 of 20")
    assert train(given).folder == folder
    read, warned = capsys.readouterr().out.splitlines()
    assert read.startswith(f"This run is finished, so it was read and not trained: {folder}. To train anew, ask for an")
    assert warned == f"It ended with a warning: {record.summary['warnings'][0]}." and "not begun to learn" in warned


def test_the_losses_are_in_a_file_that_goes_on(place, monkeypatch):
    monkeypatch.setattr(training, "CHECK_EVERY", 2)
    given = small_runs.settings(epochs=3)

    class Enough(Exception):
        pass

    def stop(history):
        raise Enough

    with pytest.raises(Enough):
        train(given, on_epoch=stop)
    folder = training.resolve(given, training.load_dataset(small_runs.NAME)["train"]).folder
    with open(folder / "losses.csv", "a") as file:
        file.write("2,4,9,9\nno row\n3,")
    losses = pd.read_csv(train(given).folder / "losses.csv")
    assert losses["epoch"].tolist() == [1, 1, 2, 2, 3, 3] and losses["step"].tolist() == [2, 4] * 3
    assert losses["loss"].between(0.1, 3).all() and losses["learning_rate"].lt(0.01).all()


def diary(folder, epoch=2, step=4):
    """What the process of a run writes down from here on, without training."""
    group = {"lr": 0.01}
    job, optimizer = SimpleNamespace(leader=True), SimpleNamespace(param_groups=[group])
    state = SimpleNamespace(epoch=epoch, step=step, job=job, optimizer=optimizer, ended="")
    named = SimpleNamespace(schedule="constant")
    return telling.Diary(SimpleNamespace(folder=folder, epochs=9, named=named), state, 5, None)


@pytest.mark.parametrize("number", ["²", "१", "9" * 5000, "-1", "", "1.0"], ids=lambda number: ascii(number[:4]))
@pytest.mark.parametrize("place_of", [0, 1], ids=["epoch", "step"])
def test_a_line_of_the_losses_that_counts_nothing_is_left_out(tmp_path, monkeypatch, number, place_of):
    monkeypatch.setattr(telling, "say", lambda *told: None)
    monkeypatch.setattr(telling, "_events", lambda *told: None)
    damaged = ["1", "2", "9", "9"]
    damaged[place_of] = number
    (tmp_path / "losses.csv").write_text(f"{telling.HEADER}\n1,2,3,4\n{','.join(damaged)}\n3,4,5,6\n4,1,2,3\n", "utf-8")
    diary(tmp_path)
    assert (tmp_path / "losses.csv").read_text("utf-8").splitlines() == [telling.HEADER, "1,2,3,4", "3,4,5,6"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_is_named_with_the_file_of_the_losses(tmp_path, monkeypatch):
    monkeypatch.setattr(telling, "say", lambda *told: None)
    monkeypatch.setattr(telling, "_events", lambda *told: None)
    written = diary(tmp_path)
    (tmp_path / "losses.csv").unlink()
    (tmp_path / "losses.csv").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device: .*losses.csv"):
        written.losses([1.0])


def test_a_run_says_that_the_plateau_rule_may_end_it_and_when_it_does(place, monkeypatch, capsys):
    monkeypatch.setenv("ALEXNET_PROGRESS", "lines")
    monkeypatch.setattr(settings.Run, "measure", lambda self, *_: {n: dict(loss=1, top1=0.5, top5=0) for n in (1, 10)})
    record = train(small_runs.settings(recipe="paper", epochs=20, initialisation="fan_in", learning_rate=1e-4))
    said = capsys.readouterr().out
    assert "20 epochs at most: the rate is divided by 10 after 2 epochs without a lower validation error, 3 t" in said
    assert "the plateau rule ends the run, 11 epochs before its schedule" in said
    assert record.summary["ended"] == "plateau" and record.summary["epochs"] == 9
    falls = [line for line in said.splitlines() if "falls" in line]
    assert falls[0] == "the rate falls from 0.0001 to 1e-05 in epoch 4; checkpoint.epoch3.pt is kept"
    for epoch in (3, 5, 7):
        kept = torch.load(record.folder / f"checkpoint.epoch{epoch}.pt", weights_only=True)
        assert json.loads(kept["progress"])["epoch"] == epoch
    assert len(list(record.folder.glob("checkpoint.epoch*"))) == len(falls) == 3  # and none that is half copied


def test_falls_within_an_epoch_and_of_single_layers_are_announced(place, monkeypatch, capsys):
    monkeypatch.setenv("ALEXNET_PROGRESS", "lines")
    train(small_runs.settings(net="code2012", recipe="code2012", epochs=4, batch_size=24))
    assert capsys.readouterr().out.count("falls from") == 3
    train(small_runs.settings(epochs=4))  # a rate that falls all the time
    assert "falls from" not in capsys.readouterr().out


def test_events_for_tensorboard_are_written_where_it_is_installed(place, monkeypatch):
    seen, fake = [], ModuleType("torch.utils.tensorboard")

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            seen.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            seen.append((name, step))

        def close(self):
            seen.append("closed")

    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    record = train(small_runs.settings(epochs=2))
    assert seen[0] == (str(record.folder / "events"), 0) and seen[-1] == "closed"
    assert {("loss", 4), ("loss", 8), ("error/validation", 4), ("rate", 8), ("images_per_second", 8)} < {*seen[1:-1]}


def test_a_tensorboard_that_is_broken_warns_and_the_run_goes_on(place, monkeypatch):
    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = lambda *_, **__: {}["six"]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    with pytest.warns(UserWarning, match=r"TensorBoard does not work here \(KeyError: 'six'\); losses.csv holds"):
        assert train(small_runs.settings(epochs=1)).summary["epochs"] == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7265, "2 h 1 min"), (90_000, "1 d 1 h"), (864_000, "10 d 0 h")],
)
def test_the_time_left_is_said_for_people(seconds, said):
    assert telling._duration(seconds) == said


# ------------------------------------------------------------------------------------------------------- stopping


def test_a_signal_writes_a_checkpoint_and_ends_with_go_on(place, name="SIGUSR1"):
    given, folder, process = start(place, 0.5, errors=subprocess.PIPE)
    wait_for(lambda: done_epochs(folder) >= 1)
    process.send_signal(getattr(signal, name))
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == GO_ON == 75 and f"Stopped by {name}: the last whole checkpoint" in said
    assert json.loads(load_checkpoint(folder)["progress"])["epoch"] >= 1
    record = train(given)
    assert record.summary["epochs"] == 6
    os.environ["ALEXNET_RUNS"] = str(place / "whole")
    assert lasting_files(train(given).folder)["history.csv"] == lasting_files(record.folder)["history.csv"]


@pytest.mark.parametrize("who", ["all", "workers"])
def test_a_job_of_several_processes_stops_together(place, who):
    """A signal to every process, as Slurm sends it, the one that watches included; or first to those that train."""
    given = {"dataset": small_runs.NAME, "width": 0.05, "epochs": 400, "batch_size": 12, "name": "two", "devices": 2}
    config, folder = place / "config.json", place / "runs" / "train" / "two"
    config.write_text(json.dumps(given | {"device": "cpu"}))
    command = [sys.executable, "-m", "alexnet_lib.training", str(config)]
    environment = os.environ | {"MARK": str(place)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    wait_for(lambda: done_epochs(folder) >= 1)
    begun = {pid: b"\0RANK=" in Path(f"/proc/{pid}/environ").read_bytes() for pid in alive(place)}
    assert len(begun) == 4 and sum(begun.values()) == 2
    for pid, trains in begun.items():
        if trains or who == "all":
            os.kill(pid, signal.SIGUSR1)
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == GO_ON, said
    assert load_checkpoint(folder) is not None and not (folder / "summary.json").exists()


def test_a_signal_waits_only_where_somebody_looks(monkeypatch):
    monkeypatch.setattr(stopping, "asked", [])
    before = {name: signal.getsignal(getattr(signal, name)) for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGALRM")}
    try:
        stopping.note_signals()
        with stopping.looking():
            signal.raise_signal(signal.SIGUSR1)
        assert stopping.asked == ["SIGUSR1"]
        with pytest.raises(Stopped, match="stopped by SIGUSR1"):  # one that prepares data, or follows another
            signal.raise_signal(signal.SIGTERM)
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


@pytest.mark.parametrize(("call", "epoch", "step"), [(1, 0, 4), (7, 2, 0)])
def test_a_signal_during_a_test_is_seen_in_it(place, monkeypatch, call, epoch, step):
    """Of the first epoch, or of the end; nothing is counted twice when the run goes on."""
    given, cut, calls = small_runs.settings(epochs=2, name="stopped"), evaluation.crops_of, []
    whole = train(small_runs.settings(epochs=2, name="whole"))

    def crops_of(images, *arguments):
        calls.append(len(images))
        stopping.asked += ["SIGTERM"] * (len(calls) == call)
        return cut(images, *arguments)

    monkeypatch.setattr(evaluation, "answers", partial(evaluation.answers, batch_size=20))
    monkeypatch.setattr(evaluation, "crops_of", crops_of)
    monkeypatch.setattr(stopping, "asked", [])
    with pytest.raises(Stopped, match="Stopped by SIGTERM"):
        train(given)
    assert sum(calls[call // 6 * 6 :]) < 3 * 48 and len(calls) < call + 11
    progress = json.loads(load_checkpoint(whole.folder.with_name("stopped"))["progress"])
    assert (progress["epoch"], progress["step"]) == (epoch, step)
    stopping.asked.clear()
    assert train(given).history.equals(whole.history)


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        (Stopped("stopped by SIGTERM"), "Stopped by SIGTERM: what was finished is kept."),
        (KeyboardInterrupt(), "Stopped: what was finished is kept."),
        (Stopped("Stopped: this is kept.\nRun it again."), "Stopped: this is kept."),
    ],
)
def test_a_command_that_ends_while_it_prepares_has_two_lines_too(place, monkeypatch, capsys, stop, said):
    def prepares(name):
        raise stop

    monkeypatch.setattr(training, "load_dataset", prepares)
    monkeypatch.setattr(stopping, "note_signals", lambda: None)
    (place / "config.json").write_text("{}")
    with pytest.raises(SystemExit):
        training.main([str(place / "config.json")])
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(said) and "again" in second


def test_one_who_follows_is_stopped_too(place, monkeypatch):
    monkeypatch.setattr(stopping, "asked", ["SIGTERM"])
    given, folder, process = start(place, 0.5)
    wait_for(lambda: done_epochs(folder) >= 1)
    with pytest.raises(Stopped, match="Stopped by SIGTERM: another process trains this run, and goes on"):
        train(given)
    stopping.asked.clear()

    def stops(history):
        raise KeyboardInterrupt

    with pytest.raises(stopping.Interrupted, match="Stopped: another process trains this run, and goes on.\nRun it"):
        train(given, on_epoch=stops)
    assert process.poll() is None
    process.kill()
    process.wait()


# --------------------------------------------------------------------------------------------- what does not work here


def test_a_compiler_that_is_not_there_is_named_and_recorded(place, monkeypatch):
    normalization._compiled_functions.cache_clear()

    def broken(*_, **__):
        raise RuntimeError("Failed to find C compiler.\nmore")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match=r"torch.compile does not work here \(RuntimeError: Failed to find C compiler"):
        assert not normalization.can_compile("cpu", torch.float32)
    monkeypatch.setattr(launch, "has_allocator", lambda: True)
    monkeypatch.setattr(settings, "computes_in_bf16", lambda device: False)
    assert train(small_runs.settings(epochs=1, speed="fast")).summary["compiled"] is False
    assert train(small_runs.settings(epochs=1)).summary["compiled"] is False
    normalization._compiled_functions.cache_clear()


@pytest.mark.parametrize(("units", "precision"), [(False, "bf16"), (True, "bf16"), (False, "fp32")])
def test_bfloat16_without_units_is_recorded(place, monkeypatch, units, precision):
    monkeypatch.setattr("alexnet_lib.runs.bfloat16.computes_in_bf16", lambda device: units)
    record = train(small_runs.settings(epochs=1, precision=precision))
    assert record.summary["emulated"] is (precision == "bf16" and not units)


def test_a_gpu_without_kernels_is_left_out_with_the_reason(monkeypatch):
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 4)
    monkeypatch.setattr(cuda, "get_device_name", lambda number: f"card {number}")
    monkeypatch.setattr(cuda, "get_arch_list", lambda: ["sm_80", "sm_90a", "compute_120"])
    monkeypatch.setattr(cuda, "get_device_capability", lambda number: [(7, 0), (8, 6), (9, 0), (12, 1)][number])
    with pytest.warns(UserWarning, match=r"cuda:0 \(card 0, compute capability 7.0\) is left out: the installed torch"):
        assert settings.find_device("auto") == "cuda:1"
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="on this machine are auto, cuda:1, cuda:2, cuda:3"):
        settings.find_device("cuda:0")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="devices = 4; on this machine there are 3 of"):
        settings.share_out(small_runs.settings(device="cuda:1", devices=4, columns=1))


def test_a_job_takes_the_gpus_that_it_can_use(place, monkeypatch):
    monkeypatch.setattr(job, "usable_gpus", lambda: [1, 3])
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: taken.append(str(device)))
    monkeypatch.setattr(
        job.dist, "init_process_group", lambda kind, **options: taken.append((kind, options["device_id"]))
    )
    monkeypatch.setattr(job.dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(job, "init_device_mesh", lambda *_, **__: SimpleNamespace(get_coordinate=lambda: (1, 0)))
    own = {"ALEXNET_JOB": str(place), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1", "RANK": "1"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    with job.join() as joined:
        assert joined.device == "cuda:3" and taken == ["cuda:3", ("nccl", torch.device("cuda", 3))]


def test_gpus_of_another_maker_are_taken_as_they_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["gfx90a", "gfx942"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: (9, 4))
    assert job.usable_gpus() == [0]


def test_a_job_that_fails_keeps_all_that_was_said(tmp_path):
    with pytest.raises(JobFailed, match="All that the processes said is in"):
        launch.torchrun(1, "columns", logs=tmp_path / "logs")
    assert "Traceback" in (tmp_path / "logs" / "0.err").read_text()


def test_nccl_has_remedies(monkeypatch, tmp_path):
    def popen(command, stdout, **_):
        stdout.write("process 0: NCCL error in: ProcessGroupNCCL.cpp, unhandled system error")
        stdout.flush()
        return SimpleNamespace(poll=lambda: 1, returncode=1)

    monkeypatch.setattr(launch.subprocess, "Popen", popen)
    with pytest.raises(JobFailed, match="NCCL_DEBUG=INFO .* NCCL_P2P_DISABLE=1 .* NCCL_SOCKET_IFNAME"):
        launch.torchrun(1, "columns")


def test_remedies_are_named_once():
    told = launch.with_remedies("NCCL error: remote process exited")
    assert told.count("NCCL_DEBUG=INFO") == 1 and launch.with_remedies(told) == told
    assert launch.with_remedies("no room") == "no room"


@pytest.mark.parametrize("asked", [True, False])
def test_a_job_that_is_stopped_before_it_listens_has_not_failed(monkeypatch, tmp_path, asked):
    job = SimpleNamespace(poll=lambda: -signal.SIGTERM, returncode=-signal.SIGTERM)
    monkeypatch.setattr(launch.subprocess, "Popen", lambda *_, **__: job)
    monkeypatch.setattr(stopping, "asked", ["SIGTERM"] * asked)
    with pytest.raises(Stopped if asked else JobFailed, match="stopped by a signal|ended with code -15"):
        launch.torchrun(1, "columns", logs=tmp_path / "logs")
    assert (tmp_path / "logs").exists() != asked


def test_stop_in_a_notebook_says_in_two_lines_what_is_kept(place, monkeypatch):
    """And the same cell, run again, ends with the same record."""
    from IPython.core.interactiveshell import InteractiveShell

    given = small_runs.settings(epochs=3)
    shell, shown = InteractiveShell(), []
    monkeypatch.setattr(shell, "_showtraceback", lambda kind, value, lines: shown.extend(lines))

    def press_stop(history):
        if history["epoch"].max() == 2:
            raise KeyboardInterrupt

    shell.user_ns.update(train=train, given=given, press_stop=press_stop)
    assert not shell.run_cell("record = train(given, on_epoch=press_stop)").success
    folder = training.resolve(given, training.load_dataset(small_runs.NAME)["train"]).folder
    kept, how = shown
    assert kept.startswith("Stopped: the last whole checkpoint is of") and str(folder) in kept
    assert how == "Run it again, with the same settings, to go on."
    assert shell.run_cell("record = train(given)").success
    assert shell.user_ns["record"].history["epoch"].max() == 3


def test_a_kernel_without_jupyterlab_shows_the_same(place, monkeypatch):
    """As VS Code, nbclient and Papermill start one: lines for a bar, a picture for a slider, two lines after Stop."""
    for name in ("ALEXNET_PROGRESS", "JPY_SESSION_NAME", "PYTEST_CURRENT_TEST", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    manager, client = start_new_kernel(cwd=str(place))
    outputs = []

    def run(code, stop_after=None):
        outputs.clear()

        def hook(message):
            outputs.append((message["msg_type"], message["content"]))
            if stop_after and stop_after in message["content"].get("text", ""):
                manager.interrupt_kernel()

        reply = client.execute_interactive(code, output_hook=hook, timeout=240)["content"]
        return reply["status"], "".join(content.get("text", "") for _, content in outputs)

    try:
        run(SLOWLY.format(seconds=0.3))
        run(f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})")
        run("from tests import small_runs\nfrom alexnet_lib import train\ngiven = small_runs.settings(epochs=5)")
        status, said = run("record = train(given)", stop_after="epoch 2 of 5")
        (error,) = [content for kind, content in outputs if kind == "error"]
        assert status == "error" and error["ename"] == "Interrupted" and "epoch 2 of 5" in said
        kept, how = error["traceback"]
        assert kept.startswith("Stopped: the last whole checkpoint is of") and how.startswith("Run it again")
        status, said = run("record = train(given)")
        assert status == "ok" and said.startswith("This run goes on from") and "epoch 5 of 5" in said
        run("from alexnet_lib.figures.curves import new_figure\nfrom alexnet_lib.notebook import slider")
        run("slider(lambda width: new_figure(width, 1)[0], width=([1, 2], 2))")
        (shown,) = [content["data"] for kind, content in outputs if kind == "execute_result"]
        assert shown.keys() == {"image/png", "text/plain"}
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_stop_before_the_first_checkpoint_says_that_there_is_none(tmp_path):
    no = pytest.raises(stopping.Interrupted, match="Stopped: there is no checkpoint yet")
    with no, stopping.interruptible(tmp_path):
        raise KeyboardInterrupt
