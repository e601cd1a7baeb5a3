"""§3.2: two columns on two processes compute what the net on one device does, and a job survives its processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alexnet_lib import alexnet
from alexnet_lib.architecture import layer_shapes, skeleton
from alexnet_lib.columns import ColumnDropout, crossings, main, memory, own_column, own_part
from alexnet_lib.dropout import Dropout
from alexnet_lib.evaluation import mean_of
from alexnet_lib.inception import googlenet
from alexnet_lib.loader import make_batches
from alexnet_lib.runs import launch
from alexnet_lib.runs.job import ALONE, Job, JobFailed
from alexnet_lib.runs.launch import torchrun
from alexnet_lib.runs.records import Record, load_checkpoint
from alexnet_lib.runs.settings import resolve
from alexnet_lib.study.anatomy import summarise
from alexnet_lib.training import StallWarning, load_dataset, train
from tests.small_runs import settings

SECOND = Job(replica=0, replicas=1, column=1, columns=2)


def compared(processes, *arguments, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "error::DeprecationWarning,error::FutureWarning")
    return [json.loads(line) for line in torchrun(processes, "columns", "--image-size", "80", *arguments)]


def test_two_columns_on_two_processes_are_the_net_on_one(monkeypatch):
    """Outputs, gradients, and the weights after 20 updates with dropout; seven classes do not divide by two."""
    nets = ("paper", "code2012", "six_conv")
    for name, found in zip(nets, compared(2, "--net", *nets, "--steps", "20", monkeypatch=monkeypatch), strict=True):
        assert (found["net"], found["columns"], found["replicas"], found["steps"]) == (name, 2, 1, 20)
        assert max(found["outputs"], found["gradients"], found["weights"]) < 1e-10


def test_two_columns_and_two_replicas_are_the_whole_batch_on_one(monkeypatch):
    (found,) = compared(4, "--steps", "5", "--batch", "7", monkeypatch=monkeypatch)
    assert (found["columns"], found["replicas"]) == (2, 2)
    assert max(found["outputs"], found["gradients"], found["weights"]) < 1e-10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--net", "paper", "foo"], "googlenet"),
        (["--net", "one_gpu"], "one_gpu can't be divided into columns; add --columns 1"),
        (["--net", "paper", "googlenet"], "googlenet can't be divided into columns; add --columns 1"),
        (["--columns", "3"], "choose from 1, 2"),
        (["--devices", "3"], "--devices 3; wants a multiple of --columns, which is 2"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_a_process_starts(arguments, told, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(SystemExit):
        main(arguments)
    assert told in capsys.readouterr().err.replace("'", "").replace("cant", "can't")


def test_a_net_without_columns_runs_as_replicas(monkeypatch):
    (found,) = compared(
        2, "--steps", "3", "--batch", "5", "--columns", "1", "--net", "one_gpu", monkeypatch=monkeypatch
    )
    assert (found["columns"], found["replicas"]) == (1, 2)
    assert max(found["outputs"], found["gradients"], found["weights"]) < 1e-10


def test_the_comparison_can_fail(monkeypatch):
    """In float32 rounding shows, so the differences are measured and not assumed."""
    (found,) = compared(2, "--steps", "2", "--dtype", "float32", monkeypatch=monkeypatch)
    assert 1e-10 < max(found["outputs"], found["gradients"], found["weights"]) < 1e-3


# -------------------------------------------------------------------------------------------------- one column's part


class Fellow(Job):
    """A job whose other processes are never asked."""

    def group(self, dimension):
        return None


def test_a_column_has_half_of_every_tensor_under_its_own_name():
    net = alexnet("paper", 7, width=0.1, seed=0)
    parts = [own_column(net, Fellow(column=c, columns=2)) for c in (0, 1)]
    for name, p in net.named_parameters():
        halves = [part.get_parameter(name) for part in parts]
        assert torch.equal(torch.cat(halves), p)
        assert torch.equal(own_part(p, SECOND), halves[1])
    gathers = [name for name, _ in parts[0].named_children() if name.startswith("gather")]
    assert gathers == ["gather_conv3", "gather_fc6", "gather_fc7", "gather_fc8", "gather"]
    sizes = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert sum(sizes) == sum(p.numel() for p in net.parameters()) and sizes[0] > sizes[1]


@pytest.mark.parametrize("name", ["one_gpu", "owt2014"])
def test_nets_without_columns_are_refused(name, place):
    if name == "one_gpu":
        with pytest.raises(ValueError, match="norm1 spans 1 columns; wants 2"):
            own_column(alexnet(name, 3, width=0.1, seed=0), Fellow(column=0, columns=2))
    store = load_dataset("embedded")["train"]
    with pytest.raises(ValueError, match=f"columns = 2; {name} is not divided into columns, as paper, code2012"):
        resolve(settings(net=name, columns=2), store)
    assert resolve(settings(net=name, devices=2), store).columns == 1


def test_layouts_that_cannot_be_are_refused(place):
    store = load_dataset("embedded")["train"]
    with pytest.raises(ValueError, match="devices = 3, which do not divide into 2 columns"):
        resolve(settings(devices=3, columns=2), store)
    layouts = [resolve(settings(devices=n), store) for n in (1, 2, 4)]
    assert [(run.devices, run.columns) for run in layouts] == [(1, 1), (2, 2), (4, 2)]
    assert len({run.name for run in layouts}) == 1  # one run, wherever it is computed


@given(
    batch=st.integers(1, 9),
    replicas=st.integers(1, 3),
    columns=st.integers(1, 2),
    units=st.integers(1, 5),
    kind=st.sampled_from([Dropout, torch.nn.Dropout]),
)
def test_masks_are_those_of_the_net_on_one_device(batch, replicas, columns, units, kind):
    x = torch.ones(batch, columns * units)
    torch.manual_seed(3)
    whole = kind(0.4)(x)
    rows = []
    for replica in range(replicas):
        parts = []
        for column in range(columns):
            job = Job(replica, replicas, column, columns, batch=batch)
            own = x[job.images_of_batch, column * units : (column + 1) * units]
            torch.manual_seed(3)
            layer = ColumnDropout(0.4, job, inverted=kind is torch.nn.Dropout)
            parts.append(layer(own))
            assert torch.equal(layer.eval()(own), kind(0.4).eval()(own))
        rows.append(torch.cat(parts, 1))
    assert torch.equal(torch.cat(rows), whole)


@pytest.mark.parametrize("name", ["paper", "owt2014", "googlenet"])
def test_no_layer_of_a_replica_draws_for_itself(name):
    net = googlenet(3, width=0.1, seed=0) if name == "googlenet" else alexnet(name, 3, width=0.05, seed=0)
    drawing = (Dropout, torch.nn.modules.dropout._DropoutNd)
    own = own_column(net, Job(replica=1, replicas=2))
    assert any(isinstance(layer, drawing) for layer in net.modules())
    assert not any(isinstance(layer, drawing) for layer in own.modules())


@given(count=st.integers(0, 50), replicas=st.integers(1, 7))
def test_shares_are_fair_and_whole(count, replicas):
    shares = [range(count)[Job(replica, replicas).share(count)] for replica in range(replicas)]
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert list(range(count)[ALONE.share(count)]) == list(range(count))


# ----------------------------------------------------------------------------------------------- the paper's counting


def test_what_crosses_between_the_columns():
    """Half of 13 · 13 · 256 into conv3, and of 9216, 4096 and 4096 into the fully connected layers."""
    table = crossings(skeleton("paper"))
    assert table["values"].to_dict() == {"conv3": 21_632, "fc6": 4608, "fc7": 2048, "fc8": 2048}
    assert (table["forward"] == 4 * table["values"]).all() and (table["backward"] == table["forward"]).all()
    assert list(crossings(skeleton("six_conv")).index) == ["conv3", "conv6", "fc6", "fc7", "fc8"]


def test_memory_is_counted_from_shapes():
    found = memory(skeleton("paper"), batch=128)
    assert found["weights"] == found["their gradients"] == found["their velocities"] == 4 * 60_965_224
    assert found["images"] == 128 * 150_528 * 4
    units = [96 * 55**2] * 3 + [96 * 27**2] + [256 * 27**2] * 3 + [256 * 13**2] + [384 * 13**2] * 4
    units += [256 * 13**2] * 2 + [256 * 36] + [4096] * 6 + [1000]
    assert found["outputs of the layers"] == 128 * 4 * sum(units)
    pair = memory(skeleton("paper"), batch=128, columns=2)
    assert pair["weights"] == found["weights"] // 2 and pair["images"] == found["images"]
    others = 128 * 4 * (21_632 + 4608 + 2048 + 2048)
    assert pair["outputs of the layers"] == found["outputs of the layers"] // 2 + others
    assert layer_shapes(skeleton("paper"))["pool5"] == (256, 6, 6)


def test_a_device_of_the_pair_multiplies_less_than_the_half_net():
    pair, half = (summarise(alexnet(name, seed=0))["multiply_adds"].sum() for name in ("paper", "one_gpu"))
    assert (round(pair / 2e6, 1), round(half / 1e6, 1)) == (362.2, 391.5)


# -------------------------------------------------------------------------------------------- jobs that end too early


def children(parent):
    """The processes that one has started."""
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def test_a_killed_process_ends_the_job_and_either_layout_goes_on(place):
    config = place / "config.json"
    wanted = {"dataset": "embedded", "width": 0.05, "epochs": 30, "batch_size": 16, "learning_rate": 0.0005}
    config.write_text(json.dumps(wanted | {"name": "killed", "device": "cpu", "devices": 2}))
    folder = place / "runs" / "train" / "killed"
    command = [sys.executable, "-m", "alexnet_lib.training", str(config)]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    while load_checkpoint(folder) is None:
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.05)
    (watcher,) = children(job.pid)
    os.kill(children(watcher)[-1], signal.SIGKILL)
    began = time.monotonic()
    _, said = job.communicate(timeout=60)
    assert job.returncode != 0 and time.monotonic() - began < 60
    assert "process 1 was killed by signal 9" in said and not (folder / "summary.json").exists()
    done = json.loads(load_checkpoint(folder)["progress"])["epoch"]
    assert 1 <= done < 30

    alone = train(settings(**wanted, name="killed"))  # goes on on one device, from the other layout's checkpoint
    unbroken = train(settings(**wanted, name="unbroken"))
    assert len(alone.timing) == len(alone.history) // 2 == 30
    difference = (alone.history["loss"] - unbroken.history["loss"]).abs()
    assert difference[: 2 * done].max() < 0.01 and difference.max() < 0.1
    assert alone.config["devices"] == 1


def test_torchrun_starts_a_job_again_and_it_goes_on(place):
    config = place / "config.json"
    wanted = {"dataset": "embedded", "width": 0.05, "epochs": 12, "batch_size": 16, "device": "cpu"}
    config.write_text(json.dumps(wanted | {"name": "restarted"}))
    folder = place / "runs" / "train" / "restarted"
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    run += ["-m", "alexnet_lib.training", str(config)]
    job = subprocess.Popen(run, stderr=subprocess.DEVNULL, env=os.environ)
    while load_checkpoint(folder) is None:
        assert job.poll() is None
        time.sleep(0.05)
    os.kill(children(job.pid)[0], signal.SIGKILL)
    assert not (folder / "summary.json").exists()
    assert job.wait(timeout=120) == 0
    record = Record.open(folder)
    assert record.history["epoch"].tolist() == [epoch for epoch in range(1, 13) for _ in "ab"]


def test_replicas_read_their_own_share_of_every_batch(place):
    store = load_dataset("embedded")["train"]
    run = resolve(settings(batch_size=11), store)
    mean = mean_of(store, run.image_size)
    whole = list(make_batches(run, store, mean, 1))
    shares = [list(make_batches(run, store, mean, 1, 0, Job(replica=r, replicas=3))) for r in range(3)]
    assert len(whole) == 5 and len(whole[-1][1]) == 4
    for batch, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([x for x, _ in parts]), batch[0])
        assert torch.equal(torch.cat([labels for _, labels in parts]), batch[1])


def test_two_devices_go_on_from_the_checkpoint_of_one_and_show_their_progress(place):
    few, seen = settings(epochs=4, initialisation="fan_in", name="passed on"), []

    class Enough(Exception):
        pass

    def stop_after_two(history):
        if history["epoch"].max() == 2:
            raise Enough

    with pytest.raises(Enough):
        train(few, stop_after_two)
    record = train(settings(epochs=4, initialisation="fan_in", name="passed on", devices=2), seen.append)
    assert record.history["epoch"].max() == 4 and seen[-1]["epoch"].max() == 4
    assert (record.summary["devices"], record.summary["columns"]) == (2, 2)
    unbroken = train(settings(epochs=4, initialisation="fan_in", name="unbroken"))
    assert (record.history["loss"] - unbroken.history["loss"]).abs().max() < 0.01
    net = load_checkpoint(record.folder)["net"]
    assert {name: tensor.shape for name, tensor in net.items()} == {
        name: tensor.shape for name, tensor in load_checkpoint(unbroken.folder)["net"].items()
    }
    assert record.summary["parameters"] == unbroken.summary["parameters"]
    assert Record.open(record.folder).config["name"] == "passed on"


def test_a_failure_names_the_process_and_its_last_words(place):
    with pytest.raises(JobFailed, match=r"(?s)process \d: NonFiniteLoss: the loss is .*there is no checkpoint yet"):
        train(settings(learning_rate=1e6, epochs=4, devices=2))


def test_warnings_of_a_job_reach_the_caller(place, monkeypatch):
    def torchrun(*_, tell, **__):
        tell({"warning": "slow"})
        tell({"n": 1, "total": 2, "initial": 0, "postfix": ""})
        raise JobFailed("it is over")

    monkeypatch.setattr(launch, "torchrun", torchrun)
    with pytest.raises(JobFailed, match="it is over"), pytest.warns(StallWarning) as caught:
        train(settings(devices=2))
    assert [(str(w.message), w.category) for w in caught] == [("slow", StallWarning)]


def test_the_memory_of_layers_within_layers_is_not_guessed():
    with pytest.raises(ValueError, match="inception3a has layers inside"):
        memory(googlenet(3, width=0.1, image_size=64, without="pool3"), image_size=64)
