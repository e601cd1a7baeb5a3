"""§4.2: the paper's dropout is not torch's."""

import pytest
import torch

from alexnet_lib.dropout import Dropout


def test_training_silences_and_does_not_rescale():
    torch.manual_seed(0)
    y = Dropout(0.5)(torch.full((200, 200), 3.0))
    assert set(y.unique().tolist()) == {0.0, 3.0}
    assert abs((y == 0).float().mean().item() - 0.5) < 0.01


def test_testing_halves_and_torch_does_not():
    x = torch.full((4, 4), 3.0)
    assert torch.equal(Dropout(0.5).eval()(x), x / 2)
    assert torch.equal(torch.nn.Dropout(0.5).eval()(x), x)


def test_mean_output_is_the_same_in_training_and_testing():
    torch.manual_seed(0)
    drop, x = Dropout(0.3), torch.rand(1, 50) + 1
    average = torch.stack([drop(x) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(average, drop.eval()(x), rtol=0.05, atol=0)


def test_a_silent_unit_passes_no_gradient():
    torch.manual_seed(0)
    x = torch.ones(100, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, (y.detach() != 0).float())


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_impossible_probabilities_are_refused(p):
    with pytest.raises(ValueError, match=f"p = {p}"):
        Dropout(p)
