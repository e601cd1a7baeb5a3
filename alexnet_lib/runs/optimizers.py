"""torch's optimisers, without torch's compiler: their first step would load it, 900 modules in some seconds."""

import inspect

import torch
from torch.optim import Optimizer


def _without_compiler(optimizer: type[Optimizer]) -> type[Optimizer]:
    """The same optimiser without the wrappers around its methods, which load the compiler so as to switch it off."""
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in ("add_param_group", "zero_grad")}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), methods)


SGD, Adam = _without_compiler(torch.optim.SGD), _without_compiler(torch.optim.Adam)
