"""§5: the update rule against its two printed lines in float64, the plateau rule, initial weights, recipes."""

import copy
import math
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_lib import PaperSGD, PlateauRule, alexnet, recipe, skeleton
from alexnet_lib.inception import each_output, four_per_cent_less
from alexnet_lib.learning import (
    RECIPES,
    initial_std,
    initialise,
    learned_layers,
    rate_factor,
    rescaling,
)
from alexnet_lib.runs import optimizers


def printed_rule(w, gradients, rates, momentum=0.9, decay=5e-4):
    """§5, line by line, on float64 arrays."""
    v = np.zeros_like(w)
    for g, rate in zip(gradients, rates, strict=True):
        v = momentum * v - decay * rate * w - rate * g
        w = w + v
    return w


@given(
    rates=st.lists(st.sampled_from([0.1, 0.01, 0.001, 0.02]), min_size=1, max_size=12),
    momentum=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    decay=st.floats(0, 0.01),
    seed=st.integers(0, 999),
)
@settings(max_examples=60)
def test_update_is_the_printed_rule_also_when_the_rate_changes(rates, momentum, decay, seed):
    generator = np.random.default_rng(seed)
    start, gradients = generator.normal(size=7), generator.normal(size=(len(rates), 7))
    w = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = PaperSGD([w], lr=rates[0], momentum=momentum, weight_decay=decay)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        w.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    expected = printed_rule(start, gradients, rates, momentum, decay)
    np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_a_layer_that_is_thawed_later_takes_part_from_then_on():
    early, late = (torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64)) for _ in range(2))
    optimizer = PaperSGD([early, late], lr=0.1)
    for late_gradient in (None, None, torch.ones_like(late), torch.ones_like(late)):
        early.grad, late.grad = torch.ones_like(early), late_gradient
        optimizer.step()
    for w, n in ((early, 4), (late, 2)):
        np.testing.assert_allclose(w.detach(), printed_rule(np.array([2.0]), n * [1.0], n * [0.1]), rtol=1e-12)


def moved_by(make, change=None, steps=3):
    """How far steps along a gradient move a weight (3, 2, 2, 2), whose layout may change after the first."""
    w = torch.nn.Parameter(torch.arange(24.0, dtype=torch.float64).reshape(3, 2, 2, 2).cos())
    start, optimizer = w.detach().clone(), make([w])
    for step in range(steps):
        w.grad = w.detach() ** 2
        optimizer.step()
        if change and not step:
            change(w)
    return w.detach() - start


def test_weights_gradients_and_velocities_may_lie_in_memory_in_any_way():
    """torch's fused kernel walks through memory and would pair other numbers."""

    def ours(w):
        return PaperSGD(w, lr=0.1, weight_decay=0.0)

    def channels_last(w):
        w.data = w.data.contiguous(memory_format=torch.channels_last)

    expected = moved_by(ours)
    torch.testing.assert_close(expected, moved_by(partial(torch.optim.SGD, lr=0.1, momentum=0.9)))
    torch.testing.assert_close(moved_by(ours, channels_last), expected)
    larger = torch.zeros(4, 6, dtype=torch.float64)
    part = torch.nn.Parameter(larger[:, :3])
    optimizer = ours([part])
    part.grad = torch.ones(3, 4, dtype=torch.float64).T  # set by hand, and transposed
    optimizer.step()
    assert (larger[:, :3] == -0.1).all() and (larger[:, 3:] == 0).all()


def test_a_state_goes_from_one_layout_to_another():
    kernels = torch.arange(24.0).reshape(3, 2, 2, 2).cos()
    ends = []
    for memory in (torch.contiguous_format, torch.channels_last):
        w = torch.nn.Parameter(kernels.clone())
        first = PaperSGD([w], lr=0.1)
        w.grad = kernels.sin()
        first.step()
        w = torch.nn.Parameter(w.detach().contiguous(memory_format=memory))
        second = PaperSGD([w], lr=0.1)
        second.load_state_dict(first.state_dict())
        w.grad = torch.zeros_like(w)
        second.step()
        ends.append(w.detach())
    torch.testing.assert_close(*ends)


def test_a_step_may_be_given_what_computes_the_loss():
    w = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = PaperSGD([w], lr=0.1, weight_decay=0.0)

    def closure():
        (loss := w.square().sum()).backward()
        return loss

    assert optimizer.step(closure).item() == 9 and w.item() == pytest.approx(3 - 0.1 * 6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_rate_may_be_a_tensor_that_is_changed_in_place(momentum):
    w, rate = torch.nn.Parameter(torch.ones(1, dtype=torch.float64)), torch.tensor(0.1)
    optimizer = PaperSGD([w], lr=rate, momentum=momentum)
    for factor in (1, 0.1):
        rate.mul_(factor)
        w.grad = torch.ones_like(w)
        optimizer.step()
    np.testing.assert_allclose(w.item(), printed_rule(np.ones(1), [1.0, 1.0], [0.1, 0.01], momentum), rtol=1e-6)


def test_a_step_whose_rate_stays_in_a_tensor_is_the_printed_rule():
    """As a CUDA graph wants it, whose parameters are in groups of one and more."""
    rates, w = [0.1, 0.1, 0.01], [torch.nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(3)]
    optimizer = PaperSGD([{"params": w[:1]}, {"params": w[1:]}], lr=rates[0])
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        with optimizer.fixed_rates():
            for p in w:
                p.grad = torch.ones_like(p)
            optimizer.step()
    expected = printed_rule(np.ones(1), [1.0] * 3, rates)
    for p in w:
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-6)


def test_a_group_that_came_later_keeps_its_velocity():
    first, later = (torch.nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    optimizer = PaperSGD([first], lr=0.1)
    optimizer.add_param_group({"params": [later], "lr": 0.2})
    for factor in (1, 10):
        for group in optimizer.param_groups:
            group["lr"] /= factor
        first.grad, later.grad = torch.ones_like(first), torch.ones_like(later)
        optimizer.step()
    for w, rate in ((first, 0.1), (later, 0.2)):
        np.testing.assert_allclose(w.item(), printed_rule(np.ones(1), [1.0, 1.0], [rate, rate / 10]), rtol=1e-9)


def paths_after_a_drop(optimizer_class):
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = optimizer_class([w], lr=0.1, momentum=0.9, weight_decay=5e-4)
    path = []
    for step in range(8):
        optimizer.param_groups[0]["lr"] = 0.1 if step < 5 else 0.01
        w.grad = torch.full_like(w, 0.5)
        optimizer.step()
        path.append(w[0].item())
    return path


def test_torch_goes_the_same_way_until_the_rate_drops():
    ours, theirs = paths_after_a_drop(PaperSGD), paths_after_a_drop(torch.optim.SGD)
    np.testing.assert_allclose(ours[:5], theirs[:5], rtol=1e-12)
    assert abs(ours[5] - ours[4]) > 5 * abs(theirs[5] - theirs[4])


def test_without_momentum_a_step_is_the_rate_times_the_gradient():
    w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = PaperSGD([w], lr=0.1, momentum=0.0, weight_decay=0.0)
    for gradient in (1.0, -3.0):
        before, w.grad = w.item(), torch.full_like(w, gradient)
        optimizer.step()
        assert w.item() - before == pytest.approx(-0.1 * gradient)


def test_a_rate_of_zero_leaves_weights_and_velocity_alone():
    w, free = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    optimizer = PaperSGD([{"params": [w]}, {"params": [free]}], lr=0.1)
    for rate in (0.1, 0.0, 0.0, 0.05):
        optimizer.param_groups[0]["lr"] = rate
        w.grad, free.grad = torch.full_like(w, 0.5), torch.full_like(free, 0.5)
        optimizer.step()
        assert w.grad is not None
    np.testing.assert_allclose(w.detach().numpy(), printed_rule(np.ones(2), [0.5, 0.5], [0.1, 0.05]), rtol=1e-12)


def test_state_goes_through_a_checkpoint():
    generator = np.random.default_rng(0)
    gradients = torch.from_numpy(generator.normal(size=(6, 4)))

    def steps(w, optimizer, rows):
        for row in rows:
            optimizer.param_groups[0]["lr"] = 0.1 if row < 3 else 0.01
            w.grad = gradients[row].clone()
            optimizer.step()

    whole = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    steps(whole, PaperSGD([whole], lr=0.1), range(6))
    first = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = PaperSGD([first], lr=0.1)
    steps(first, optimizer, range(3))
    second = torch.nn.Parameter(first.detach().clone())
    resumed = PaperSGD([second], lr=0.1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(second, resumed, range(3, 6))
    assert torch.equal(second, whole)


def run_rule(rule, errors):
    return [rule.step(error) for error in errors]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_an_optimiser_can_be_copied(copied):
    net = torch.nn.Linear(2, 1)
    optimizer = PaperSGD(net.parameters(), 0.1)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    other = copied(optimizer)
    for p in other.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    other.step()
    for ours, theirs in zip(net.parameters(), other.param_groups[0]["params"], strict=True):
        assert torch.equal(ours, theirs)


def test_plateau_rule_drops_three_times_and_stops():
    rule = PlateauRule(learning_rate=0.01, patience=2)
    rates = run_rule(rule, [0.9, 0.8] + [0.8] * 8)
    expected = [0.01, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, None]
    assert [r and pytest.approx(r) for r in rates] == expected


def test_plateau_rule_waits_again_after_an_improvement():
    rule = PlateauRule(learning_rate=1.0, patience=2, least_gain=0.01)
    assert run_rule(rule, [0.5, 0.495, 0.4, 0.4, 0.4]) == [1.0, 1.0, 1.0, 1.0, pytest.approx(0.1)]


def test_plateau_rule_resumes():
    errors = [0.9, 0.9, 0.7, 0.7, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
    whole = run_rule(PlateauRule(patience=2), errors)
    first, second = PlateauRule(patience=2), PlateauRule(patience=2)
    parts = run_rule(first, errors[:5])
    second.load_state_dict(first.state_dict())
    assert parts + run_rule(second, errors[5:]) == whole


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 0.0}, {"learning_rate": math.inf}, {"factor": 1.0}, {"factor": 0.1}, {"factor": math.inf}]
    + [{"drops": -1}, {"drops": 2.5}, {"patience": 0}, {"least_gain": -1}, {"least_gain": math.nan}],
)
def test_plateau_rule_refuses_the_impossible(changes):
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        PlateauRule(**changes)


def test_a_misspelt_rule_of_initial_weights_is_refused():
    with pytest.raises(ValueError, match="initialisation = 'code_2012'; accepted are printed"):
        initial_std("conv3", 2304, "code_2012")


def test_plateau_rule_is_the_papers_unless_told_otherwise():
    rule = PlateauRule()
    rates = run_rule(rule, [1.0] * 21)
    assert [rates.count(pytest.approx(rate)) for rate in (1e-2, 1e-3, 1e-4, 1e-5)] == [5, 5, 5, 5]
    assert rates[-1] is None and rates[:-1] == sorted(rates[:-1], reverse=True)


def test_the_least_that_a_plateau_rule_can_do_is_stop_at_once():
    assert run_rule(PlateauRule(patience=1, drops=0, factor=1.5), [0.5, 0.4, 0.4]) == [0.01, 0.01, None]


def test_printed_initial_weights():
    net = alexnet("paper", seed=3)
    for name, layer in net.named_children():
        if not hasattr(layer, "weight"):
            continue
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
        biased = name in ("conv2", "conv4", "conv5", "fc6", "fc7")
        assert layer.bias.unique().tolist() == [float(biased)]


def test_initial_weights_depend_on_the_seed_alone():
    nets = [alexnet("paper", 5, width=0.25, image_size=64, seed=s) for s in (1, 1, 2)]
    assert torch.equal(nets[0].fc7.weight, nets[1].fc7.weight)
    assert not torch.equal(nets[0].fc7.weight, nets[2].fc7.weight)
    assert not torch.equal(nets[0].conv4.weight[:, :, 0], nets[0].conv5.weight[:1, :, 0].expand(96, -1, -1))


def test_rules_of_initialisation():
    assert initial_std("conv4", 1728, "printed") == 0.01
    assert {initial_std(f"conv{number}", 1728, "code2012") for number in (3, 4, 5, 6)} == {0.03}
    assert initial_std("conv2", 300, "rescaled") == pytest.approx(0.02)
    assert initial_std("conv2", 1200, "fan_in") == pytest.approx(0.0408, abs=5e-5)
    with pytest.raises(ValueError, match="'xavier'; accepted are printed, code2012"):
        initialise(alexnet("paper", 5, width=0.1, image_size=64), "xavier")


@pytest.mark.parametrize("net", ["code2012", "six_conv"])
def test_in_the_full_size_net_of_2012_nothing_is_rescaled(net):
    with torch.device("meta"):
        layers = learned_layers(skeleton(net))
    fan_ins = {name: layer.weight[0].numel() for name, layer in layers.items()}
    assert {name: rescaling(name, fan_in) for name, fan_in in fan_ins.items()} == dict.fromkeys(fan_ins, 1.0)


def test_a_batch_normalisation_is_no_learned_layer():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
    assert [*learned_layers(net)] == ["0"]


def test_half_as_many_inputs_want_weights_of_the_square_root_of_two():
    assert initial_std("fc7", 2048, "rescaled") == pytest.approx(0.01 * 2**0.5)


def test_a_net_has_one_output_or_several():
    x = torch.zeros(2)
    assert each_output(x) == (x,) and each_output((x, x)) == (x, x)


def test_googlenets_rate_falls_by_four_per_cent_after_every_eight_epochs():
    assert [four_per_cent_less(done) for done in (0, 7, 8, 15, 16)] == [1, 1, 0.96, 0.96, pytest.approx(0.9216)]
    assert four_per_cent_less(4, every=2) == pytest.approx(0.9216)


def test_recipes():
    printed = recipe("paper")
    assert (printed.learning_rate, printed.momentum, printed.weight_decay) == (0.01, 0.9, 5e-4)
    assert (printed.batch_size, printed.schedule, printed.initialisation) == (128, "plateau", "printed")
    assert {recipe(name).batch_size for name in ("paper", "code2012", "googlenet")} == {128}
    assert recipe("googlenet").average_last == 0.25 and recipe("small").average_last == 0
    with pytest.raises(ValueError, match=f"'adam'; accepted are {', '.join(RECIPES)}"):
        recipe("adam")
    with pytest.raises(AttributeError):
        printed.learning_rate = 1


def test_schedules_warm_up_and_fall():
    small, stepped = recipe("small"), recipe("stepped")
    factors = [rate_factor(stepped, done) for done in (0, stepped.warm_up, *stepped.drops_at)]
    assert factors == [pytest.approx(f) for f in (0.1, 1, 0.1, 0.01)]
    factors = [rate_factor(small, done) for done in (0, small.warm_up / 2, small.warm_up, 0.5, 0.75, 1)]
    assert factors == [pytest.approx(f) for f in (0.1, 0.55 * 0.975, 0.95, 0.5, 0.25, 0)]
    steady = recipe("steady")
    assert [rate_factor(steady, done) for done in (0, steady.warm_up, 0.5, 1)] == [pytest.approx(0.1), 1, 1, 1]
    assert replace(steady, name="small", schedule="linear") == small
    assert recipe("undecayed") == replace(small, name="undecayed", weight_decay=0.0)
    assert [name for name in RECIPES if recipe(name).average_last] == ["googlenet"]


@pytest.mark.parametrize("kind", ("SGD", "Adam"))
def test_an_optimiser_without_the_compiler_takes_the_same_path(kind):
    weights = [torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64)) for _ in range(2)]
    for weight, library in zip(weights, (torch.optim, optimizers), strict=True):
        optimizer = getattr(library, kind)([weight], lr=0.1, weight_decay=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            weight.square().sum().backward()
            optimizer.step()
    assert torch.equal(*weights) and weights[0][0] != 1


def test_a_net_and_an_update_do_not_load_torchs_compiler():
    """It would cost every process that trains some seconds before its first step."""
    program = """
import sys
import torch
from alexnet_lib import PaperSGD, alexnet, googlenet
from alexnet_lib.runs.optimizers import Adam
net = alexnet("paper", 3, width=0.05, image_size=64)
optimizer = PaperSGD(net.parameters(), lr=0.1)
net(torch.zeros(1, 3, 64, 64)).sum().backward()
optimizer.step()
optimizer.zero_grad()
Adam(net.parameters()).step()
sequel = googlenet(3, width=0.05, image_size=64, without="pool3")
torch.optim.swa_utils.AveragedModel(sequel).update_parameters(sequel)
print(sorted({"torch._dynamo", "sympy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_state_of_torchs_rule_keeps_its_velocity_when_the_rate_falls_at_once():
    ours, theirs = (torch.nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    whole, before = PaperSGD([ours], lr=0.01), torch.optim.SGD([theirs], lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(20):
        ours.grad, theirs.grad = torch.ones_like(ours), torch.ones_like(theirs)
        whole.step()
        before.step()
    taken_up = PaperSGD([theirs], lr=0.5)
    taken_up.load_state_dict(copy.deepcopy(before.state_dict()))
    for optimizer in (whole, taken_up):
        optimizer.param_groups[0]["lr"] = 0.001
        optimizer.step()
    torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=0)


def test_a_state_of_torchs_rule_is_taken_up():
    """While the learning rate stays, both take the same path."""
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    theirs = torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=5e-4)
    p.grad = torch.ones_like(p)
    theirs.step()
    q = torch.nn.Parameter(p.detach().clone())
    ours, q.grad = PaperSGD([q], lr=0.1), torch.ones_like(q)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    theirs.step()
    ours.step()
    torch.testing.assert_close(q, p, rtol=1e-12, atol=0)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay"])
def test_rates_that_are_no_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}.* all must be finite"):
        PaperSGD([torch.nn.Parameter(torch.zeros(1))], **{"lr": 0.1, name: value})
    with pytest.raises(ValueError, match=f"learning_rate = {value}"):
        PlateauRule(value)
