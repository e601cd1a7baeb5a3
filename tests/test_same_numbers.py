"""A seed gives the same numbers again: with any number of loader threads, and of every net that has a name."""

from itertools import islice

import pytest
import torch

from alexnet_lib import architecture, cifar_nets, load_dataset, training
from alexnet_lib.evaluation import mean_of
from alexnet_lib.loader import batches, make_batches
from alexnet_lib.run_state import RunState
from alexnet_lib.runs.records import load_checkpoint
from alexnet_lib.runs.settings import resolve
from alexnet_lib.runs.step import train_step
from alexnet_lib.training import train
from tests.small_runs import NAME, settings
from tests.test_cifar_training import place as cifar_place  # noqa: F401
from tests.test_cifar_training import settings as cifar_settings


def test_loader_threads_decide_no_bit_of_a_run(place, monkeypatch):
    ends = []
    for threads in (0, 1, 2, 4):
        monkeypatch.setattr(training, "batches", lambda *given, count=threads: make_batches(*given, threads=count))
        folder = train(settings(epochs=2, name=f"threads{threads}")).folder
        ends.append(((folder / "history.csv").read_bytes(), load_checkpoint(folder)))
    for history, state in ends[1:]:
        assert history == ends[0][0]
        for kind in ("net", "velocity"):
            assert all(torch.equal(state[kind][name], tensor) for name, tensor in ends[0][1][kind].items())


@pytest.fixture
def deterministic():
    """With it torch refuses what it has only ways of chance for."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def learned(asked, store):
    """The weights after two steps."""
    run = resolve(asked, store)
    state = RunState(run, len(store.classes))
    for x, labels in islice(batches(run, store, mean_of(store, run.image_size), 0), 2):
        run.set_rates(state.optimizer, state.rule, 0, 0.0)
        state.job.batch = len(labels)
        train_step(run, state, x, labels)
    return state.net.state_dict()


@pytest.mark.parametrize("name", [*architecture.NETS, "googlenet", *cifar_nets.NETS])
def test_every_named_net_learns_the_same_in_torchs_deterministic_mode(request, deterministic, name):
    small = name in cifar_nets.NETS
    request.getfixturevalue("cifar_place" if small else "place")
    changes = {"without": "pool1"} if name == "googlenet" else {}  # whose auxiliaries need more than 64 pixels
    asked = cifar_settings(net=name) if small else settings(net=name, batch_size=6, **changes)
    store = load_dataset(asked.dataset if small else NAME)["train"]
    before, first, second = resolve(asked, store).new_net(3), learned(asked, store), learned(asked, store)
    assert all(torch.equal(first[layer], second[layer]) for layer in first)
    assert any(not torch.equal(tensor, first[layer]) for layer, tensor in before.state_dict().items() if layer in first)
