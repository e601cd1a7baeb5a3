"""bfloat16 on a processor without units for it: multiplied in float32, many times as fast as in torch's own way."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# where nearly all the work is; everything else torch computes quickly enough in bfloat16 on any processor
PRODUCTS = {
    *(aten.convolution.default, aten.convolution_backward.default, aten.conv2d.default, aten.linear.default),
    *(aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.matmul.default),
}


def computes_in_bf16(device: str) -> bool:
    """Whether a device has units for bfloat16. Others only emulate it, and take longer than for float32."""
    if device.startswith("cuda"):
        # as torch.cuda.is_bf16_supported does of the current one
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device)[0] >= 8
    has = torch.cpu.get_capabilities() if device == "cpu" else {}
    return any(has.get(units) for units in ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16"))  # of Intel and AMD, of ARM


def emulates_bf16(device: str, precision: str) -> bool:
    """Whether a run has its products in bfloat16 from `MultipliedInFloat32`."""
    return device == "cpu" and precision == "bf16" and not computes_in_bf16(device)


def arithmetic_in(device: str, precision: str) -> AbstractContextManager:
    """How products are computed, forward and backward: `MultipliedInFloat32` where bfloat16 has no units."""
    return MultipliedInFloat32() if emulates_bf16(device, precision) else nullcontext()


class MultipliedInFloat32(TorchDispatchMode):
    """Products of bfloat16 tensors on a CPU, computed in float32 and rounded to bfloat16 once, at their end.

    That is what the units do: a product of two bfloat16 numbers is exact in float32, in which they are added. The
    order of the sums differs, as it does from one processor to another. torch.compile steps aside meanwhile, so the
    normalisation is computed in float32 and rounded once, which is what it comes to when it is compiled.
    """

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation not in PRODUCTS or not any(_is_bf16(each) for each in (*args, *kwargs.values())):
            return operation(*args, **kwargs)
        found = operation(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})
        return tuple(map(_rounded, found)) if isinstance(found, tuple) else _rounded(found)


def _is_bf16(value) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 and value.device.type == "cpu"


def _widened(value):
    return value.float() if _is_bf16(value) else value


def _rounded(value):
    return value.bfloat16() if isinstance(value, torch.Tensor) else value  # no gradient is asked of some operands
