"""§3.3, local response normalisation: each unit is divided by the energy of its neighbours in depth.

    b[i] = a[i] · (k + α·Σ a[j]²)^(−β),   j in a window of n maps around map i

Three conventions are in use for the sum and for k. They agree in form and differ in the numbers:

    name        k   the sum               where
    paper       2   α·Σ over the window   the printed formula (§3.3)
    code2012    2   (α/n)·Σ               the program that made the paper's numbers (layer.py divides `scale` by n)
    caffe       1   (α/n)·Σ               Caffe's bvlc_alexnet, and torch.nn.LocalResponseNorm's own default k

After the two layers comes what makes them fast: the sums of the windows, the gradient, and torch.compile.
"""

import warnings
from functools import cache, partial
from math import isfinite

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from .runs.bfloat16 import emulates_bf16

K_OF_CONVENTION = {"paper": 2.0, "code2012": 2.0, "caffe": 1.0}
IN_CACHE = 2**22  # bytes, for each thread: large enough to be worth sharing out
BLOCK = 32  # maps whose windows are summed in one product


class LocalResponseNorm(nn.Module):
    """Local response normalisation across maps (§3.3). Input and output (N, C, ...), of one shape and type.

    In float16, whose squares overflow, and in bfloat16 on a processor without units for it, the computation is in
    float32. The layer can be differentiated twice, compiled, traced and mapped (`torch.compile`, `torch.export`,
    `torch.func`).

    Args:
        convention: "paper", "code2012" or "caffe": whether the sum is divided by n, and k where none is given.
        n: width of the window in maps.
        k, alpha, beta: the constants of the formula; the paper's values by default.
        columns: how many columns (GPUs) the maps are split over; a window never reaches into another column.
        compiled: use torch.compile in training where there is a compiler. The first input then takes some seconds, the
            others half the time; the last bits differ.

    Raises:
        ValueError: an unknown convention, an impossible constant, or maps that do not divide into the columns.
    """

    def __init__(self, convention="paper", n=5, k=None, alpha=1e-4, beta=0.75, columns=1, compiled=False):
        super().__init__()
        if convention not in K_OF_CONVENTION:
            raise ValueError(f"convention = {convention!r}; accepted are {', '.join(K_OF_CONVENTION)}")
        if n < 1 or columns < 1:
            raise ValueError(f"n = {n} and columns = {columns}; both must be at least 1")
        self.convention, self.n, self.columns = convention, n, columns
        self.k = K_OF_CONVENTION[convention] if k is None else k
        self.alpha, self.beta, self.compiled = alpha, beta, compiled
        _check_constants(self.k, alpha, beta)

    def forward(self, x: Tensor) -> Tensor:
        constants = self.convention, self.n, self.columns, self.k, self.alpha, self.beta
        return _across_maps(x, *constants, self.compiled)

    def extra_repr(self) -> str:
        columns = f", columns={self.columns}" if self.columns > 1 else ""
        return f"{self.convention}, n={self.n}, k={self.k:g}, alpha={self.alpha:g}, beta={self.beta:g}{columns}"


class SpatialResponseNorm(nn.Module):
    """The same-map normalisation of the 2012 program ("rnorm"), which the paper does not mention.

    As above, but the window is a square of size × size units of one map, with zeros beyond the border, and the sum is
    always divided by size². Input and output (N, C, H, W), of one shape. layers-145.cfg has size 5 and alpha 1e-3.

    Raises:
        ValueError: an even size or an impossible constant.
    """

    def __init__(self, size: int, alpha: float, beta: float = 0.75, k: float = 1.0):
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size = {size}; accepted are odd numbers above 0")
        _check_constants(k, alpha, beta)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        return _within_maps(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size} × {self.size}, alpha={self.alpha:g}, beta={self.beta:g}, k={self.k:g}"


def _check_constants(k: float, alpha: float, beta: float) -> None:
    if not (k > 0 and alpha >= 0 and all(map(isfinite, (k, alpha, beta)))):
        raise ValueError(
            f"k = {k}, alpha = {alpha} and beta = {beta}; all must be finite, k above 0 and alpha not below 0"
        )


@torch.fx.wrap  # one node of a symbolic trace: what follows asks for types, shapes and modes, which a trace lacks
def _across_maps(x, convention: str, n: int, columns: int, k: float, alpha: float, beta: float, compiled: bool):
    """What LocalResponseNorm does."""
    if x.dim() < 2 or x.shape[1] % columns:
        raise ValueError(f"input of shape {tuple(x.shape)}; wants (N, C, ...) with C divisible by {columns} columns")
    if x.dtype == torch.float16:  # which ends at 65504: the square of 256 is beyond
        return _across_maps(x.float(), convention, n, columns, k, alpha, beta, compiled).half()
    if x.dtype == torch.bfloat16 and emulates_bf16(x.device.type, "bf16"):  # rounded once, as compiled with the units
        with torch.autocast(x.device.type, enabled=False):
            return _across_maps(x.float(), convention, n, columns, k, alpha, beta, False).bfloat16()
    maps, scale = x.shape[1] // columns, alpha if convention == "paper" else alpha / n
    window_sum = partial(_window_sum, maps=maps, n=n, convention=convention)
    if compiled and torch.is_grad_enabled() and not _watched(x):
        with torch.autocast(x.device.type, enabled=False):
            functions = _compiled_functions(x.device.type, x.dtype)
        if functions is not None:
            places = x.movedim(1, -1)
            rows = places.reshape(-1, maps).contiguous()  # no copy for channels-last memory
            response = _compiled_response(rows, functions, n, convention, k, scale, beta)
            return response.reshape(places.shape).movedim(-1, 1)
    return _normalised(x, window_sum, partial(window_sum, transposed=True), k, scale, beta)


@torch.fx.wrap
def _within_maps(x, size: int, alpha: float, beta: float, k: float):
    """What SpatialResponseNorm does."""
    if x.dtype == torch.float16:
        return _within_maps(x.float(), size, alpha, beta, k).half()
    mean = partial(F.avg_pool2d, kernel_size=size, stride=1, padding=size // 2)
    return _normalised(x, mean, mean, k, alpha, beta)


# ------------------------------------------------------------------------------------- the formula and its gradient


def _formula(x: Tensor, window_sum, k: float, scale: float, beta: float) -> Tensor:
    """The response by operations that torch can differentiate, trace and map."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # bfloat16's own squares would have eight bits
    return (wide * _power(k + scale * window_sum(wide * wide), beta)).to(x.dtype)


def _power(denominator: Tensor, beta: float) -> Tensor:
    """denominator^(−β); for the paper's β = 3/4 by square roots, which are many times faster than pow."""
    if beta != 0.75:
        return denominator.pow(-beta)
    root = denominator.rsqrt()
    power = root.sqrt()
    return power * root if torch.is_grad_enabled() or torch.jit.is_tracing() else power.mul_(root)


def _watched(x: Tensor) -> bool:
    """Whether more than numbers is asked of x: a graph, a shape, or what torch.func and forward mode carry along."""
    return (
        torch.compiler.is_compiling()
        or type(x) is not Tensor
        or x.is_meta
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()  # what autograd.Function itself asks
        or torch._C._functorch.is_legacy_batchedtensor(x)  # of `is_grads_batched`
        or forward_ad.unpack_dual(x).tangent is not None
    )


def _normalised(x: Tensor, window_sum, transposed_sum, k: float, scale: float, beta: float) -> Tensor:
    """The same with the analytic gradient; autograd's own would keep and walk five tensors of the layer's size.

    `window_sum` adds up what each unit is normalised by, `transposed_sum` what each unit takes part in. With
    d = k + s·Σ a² and y = a·d^(−β), the gradient is
        ∂L/∂a[j] = g[j]·d[j]^(−β) − 2·s·β·a[j]·Σ g[i]·y[i]/d[i]   over the units i whose window holds j.
    """

    def respond(x: Tensor) -> tuple[Tensor, Tensor]:
        response, denominator = torch.empty_like(x), torch.empty_like(x)
        for piece in _pieces(x):
            sums = window_sum(x[piece] * x[piece])
            torch.add(sums.new_full((), k), sums, alpha=scale, out=denominator[piece])  # in one pass over memory
            torch.mul(x[piece], _power(denominator[piece], beta), out=response[piece])
        return response, denominator

    def gradient(grad: Tensor, x: Tensor, denominator: Tensor) -> Tensor:
        result = torch.empty_like(grad)
        for piece in _pieces(grad):
            direct = grad[piece] * _power(denominator[piece], beta)
            handed = transposed_sum((direct * x[piece]).div_(denominator[piece]))
            torch.addcmul(direct, handed, x[piece], value=-2 * scale * beta, out=result[piece])
        return result

    formula = partial(_formula, window_sum=window_sum, k=k, scale=scale, beta=beta)
    if _watched(x):
        return formula(x)
    with torch.autocast(x.device.type, enabled=False):  # the caller has chosen the precision already
        return _Normalise.apply(x, respond, gradient, formula)


class _Normalise(torch.autograd.Function):
    """A response and its gradient, by two functions; a third, `formula`, gives what can be differentiated twice."""

    @staticmethod
    def forward(ctx, x: Tensor, respond, gradient, formula) -> Tensor:
        response, denominator = respond(x)
        ctx.save_for_backward(x, denominator)
        ctx.gradient, ctx.formula = gradient, formula
        return response

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, denominator = ctx.saved_tensors
        if torch.is_grad_enabled() or _watched(grad):
            with torch.enable_grad():
                return *torch.autograd.grad(ctx.formula(x), x, grad, create_graph=True), None, None, None
        return ctx.gradient(grad, x, denominator), None, None, None


def _pieces(x: Tensor) -> list[slice]:
    """The parts of x (N, ...) to work through one by one, so that on a CPU each stays in the cache.

    In bfloat16 it is the whole, since there memory is not what takes the time.
    """
    if x.device.type != "cpu" or x.dtype.itemsize <= 2:
        return [slice(None)]
    count = max(1, IN_CACHE * torch.get_num_threads() // max(1, x[:1].nbytes))
    return [slice(start, start + count) for start in range(0, len(x), count)]


# ----------------------------------------------------------------------------------------------- sums of the windows


def _reach(n: int, convention: str) -> tuple[int, int]:
    """How many maps before and after each are in its window.

    The printed window runs from i − n/2 to i + n/2, which is n + 1 maps for an even n; the programs take n maps
    from i − ⌊n/2⌋ on. For odd n, such as the paper's 5, they are the same.
    """
    return n // 2, n // 2 if convention == "paper" else n - 1 - n // 2


def reach_and_scale(norm: LocalResponseNorm) -> tuple[int, int, float, float]:
    """Maps before and after each in its window, k, and the factor on the sum of their squares."""
    scale = norm.alpha if norm.convention == "paper" else norm.alpha / norm.n
    return *_reach(norm.n, norm.convention), norm.k, scale


@cache
def window_band(maps: int, n: int, convention: str = "paper", dtype: torch.dtype = torch.float64) -> Tensor:
    """The matrix W, (maps, maps), with W[j, i] = 1 where map j is in the window of map i, else 0; not to be changed."""
    before, after = _reach(n, convention)
    return torch.ones(maps, maps, dtype=dtype, device="cpu").tril(before).triu(-after)


def _window_sum(x: Tensor, maps: int, n: int, convention: str, transposed: bool = False) -> Tensor:
    """Sum x (N, C, ...) over each map's window in its column of `maps` maps; or over the maps whose windows hold it."""
    before, after = reversed(_reach(n, convention)) if transposed else _reach(n, convention)
    places = x.movedim(1, -1)
    rows = places.reshape(-1, maps)  # of another shape torch would make many small products
    if torch.is_grad_enabled() or _watched(x):
        sums = _shifted(rows, before, after)
    elif x.device.type != "cpu":
        sums = _pooled(rows, before, after)
    else:
        band = window_band(maps, n, convention, x.dtype)
        sums = _product(rows, band.T if transposed else band, n)
        # In a product what is not finite makes NaN of zeros too and spoils its whole row: the first map tells.
        sums = sums if _all_finite(sums[:, 0] if maps <= 2 * BLOCK else sums) else _pooled(rows, before, after)
    return sums.reshape(places.shape).movedim(-1, 1)


def _product(rows: Tensor, band: Tensor, n: int) -> Tensor:
    """By matrix products, the fastest way on a CPU; of a large band they leave out most of the zeros."""
    maps = len(band)
    if maps <= 2 * BLOCK:
        return rows @ band
    sums = torch.empty_like(rows)
    for start in range(0, maps, BLOCK):
        own, near = slice(start, start + BLOCK), slice(max(start - n, 0), start + BLOCK + n)
        torch.mm(rows[:, near], band[near, own], out=sums[:, own])
    return sums


def _pooled(rows: Tensor, before: int, after: int) -> Tensor:
    """By pooling, in one pass over memory."""
    padding = max(before, after)
    sums = F.avg_pool2d(rows[None], (1, before + after + 1), 1, (0, padding), divisor_override=1)[0]
    return sums[:, padding - before :][:, : rows.shape[1]]


def _shifted(rows: Tensor, before: int, after: int) -> Tensor:
    """By shifted copies, which a compiler never stores and every tracer understands."""
    around, maps = F.pad(rows, (before, after)), rows.shape[1]
    return sum(around[:, i : i + maps] for i in range(before + after + 1))


def _all_finite(x: Tensor) -> bool:
    return bool(x.sum().isfinite())


# ------------------------------------------------------------------------------------------------ with torch.compile

# torch.compile makes one pass over memory of what lies between matrix products. Windows are summed by shifted copies,
# but in bfloat16 on a CPU, where that would go unit by unit, by a product with `band`. The input is in rows.


def _sums(rows, band, before: int, after: int) -> Tensor:
    return _shifted(rows, before, after) if band is None else rows @ band


def _response(rows, band, before: int, after: int, k: float, scale: float, beta: float) -> tuple[Tensor, Tensor]:
    """The response and its denominator."""
    denominator = k + scale * _sums(rows * rows, band, before, after)
    return rows * _power(denominator, beta), denominator


def _share(grad, rows, denominator, beta: float) -> Tensor:
    """What each unit's gradient hands to the units of its window."""
    return grad * rows * _power(denominator, beta) / denominator


def _gradient(grad, rows, denominator, share, band, before: int, after: int, scale: float, beta: float) -> Tensor:
    handed = _sums(share, None if band is None else band.T, after, before)
    return grad * _power(denominator, beta) - (2 * scale * beta) * rows * handed


def _compiled_response(rows: Tensor, functions, n: int, convention: str, k: float, scale: float, beta: float) -> Tensor:
    """As `_normalised`, for rows."""
    compiled_response, compiled_share, compiled_gradient = functions
    before, after = _reach(n, convention)
    by_product = rows.device.type == "cpu" and rows.dtype.itemsize <= 2
    band = window_band(rows.shape[1], n, convention, rows.dtype) if by_product else None

    def respond(rows: Tensor) -> tuple[Tensor, Tensor]:
        response, denominator = compiled_response(rows, band, before, after, k, scale, beta)
        if band is not None and not _all_finite(denominator[:, 0]):
            return compiled_response(rows, None, before, after, k, scale, beta)
        return response, denominator

    def gradient(grad: Tensor, rows: Tensor, denominator: Tensor) -> Tensor:
        grad = grad.contiguous().detach()  # for a view torch.compile would make another version
        result = torch.empty_like(grad)
        for piece in _pieces(grad):
            given = grad[piece], rows[piece], denominator[piece]
            share = compiled_share(*given, beta)
            own = band if band is not None and _all_finite(share) else None
            result[piece] = compiled_gradient(*given, share, own, before, after, scale, beta)
        return result

    shifted = partial(_shifted, before=before, after=after)
    formula = partial(_formula, window_sum=shifted, k=k, scale=scale, beta=beta)
    with torch.autocast(rows.device.type, enabled=False):
        return _Normalise.apply(rows, respond, gradient, formula)


@cache
def _compiled_functions(device: str, dtype: torch.dtype):
    """The three functions through torch.compile, or None where that does not work: it wants a C++ compiler, or Triton.

    One compilation, of some seconds, serves all sizes. It is made here, on an input that is large enough for the
    compiler to share the work among threads.
    """
    try:
        compiled = [torch.compile(function, dynamic=True) for function in (_response, _share, _gradient)]
        rows = torch.ones(4096, 64, dtype=dtype, device=device, requires_grad=True)
        _compiled_response(rows, compiled, 5, "paper", 2.0, 1.0, 0.75).backward(rows.detach())
    except Exception as error:  # the compiler's back ends raise many kinds
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(
            f"torch.compile does not work here ({first}), so the normalisation takes about twice as long. It wants a "
            "C++ compiler or, for a GPU, Triton and a C compiler, and a folder that it can write to "
            "(TORCHINDUCTOR_CACHE_DIR)",
            stacklevel=2,
        )
        return None
    return compiled


def can_compile(device: str, dtype: torch.dtype) -> bool:
    """Whether "compiled" means something on this machine; tried once for a kind of device ("cpu", "cuda")."""
    return _compiled_functions(device, dtype) is not None
