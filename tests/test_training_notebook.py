"""What the reader writes in notebook 07 is what the library does, and the comparison can fail."""

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alexnet_lib import PaperSGD, PlateauRule
from alexnet_lib.paths import NOTEBOOKS

CELLS = {cell.id: cell.source for cell in nbformat.read(NOTEBOOKS / "07_train.ipynb", 4).cells}


def functions_of(cell: str, **names) -> dict:
    """The functions that a cell defines, without what it then does with them."""
    blocks = CELLS[cell].split("\n\n\n")
    for block in blocks:
        if block.startswith("def "):
            exec(compile(block.partition("\n\n\n")[0], cell, "exec"), names)
    return names


def batches(epoch, size=32):
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(5):
        yield torch.randn(size, 32, generator=generator), torch.arange(size)


def a_net():
    """Of layers whose sizes fill the processor's vectors: the last few numbers of others may be rounded differently."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32))


@pytest.mark.parametrize(("momentum", "equal"), [(0.9, True), (0.8, False)])
def test_the_loop_takes_the_librarys_steps_to_the_last_bit(momentum, equal):
    learn = functions_of("learn", torch=torch, F=F, batches=batches)["learn"]
    mine, theirs = a_net(), a_net()
    losses = learn(mine, epochs=4, rate=0.1)
    optimizer = PaperSGD(theirs.parameters(), lr=0.1, momentum=momentum)
    for epoch in range(4):
        for x, y in batches(epoch):
            optimizer.zero_grad()
            F.cross_entropy(theirs(x), y).backward()
            optimizer.step()
    assert len(losses) == 20
    pairs = zip(mine.parameters(), theirs.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs) == equal


def test_the_printed_rule_is_the_librarys_and_torchs_is_another():
    names = functions_of("rule", np=np)
    weight, way = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)), [0.0]
    optimizer = PaperSGD([weight], lr=0.01)
    for step in range(30):
        optimizer.param_groups[0]["lr"] = 0.01 if step < 12 else 0.001
        weight.grad = -torch.ones_like(weight)
        optimizer.step()
        way.append(weight.item())
    assert np.allclose(np.diff(way), names["steps"](names["printed"]), rtol=1e-9)
    assert not np.allclose(np.diff(way), names["steps"](names["torchs"]), rtol=1e-2)


def test_the_plateau_rule_by_hand_is_the_librarys():
    errors = np.random.default_rng(0).random(20).round(2)
    rule = PlateauRule(0.006, patience=2)
    theirs = [rate for rate in map(rule.step, errors) if rate is not None]
    by_hand = functions_of("plateau", np=np)["plateau"](errors, 0.006, 2)
    assert np.allclose(by_hand[: len(theirs)], theirs) and len(set(theirs)) == 4
