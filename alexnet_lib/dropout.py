"""§4.2, dropout as in 2012: units fall silent in training, and every unit is halved at test time."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Sets each output to zero with probability p in training and multiplies all outputs by 1 − p otherwise (§4.2).

    `torch.nn.Dropout` is the inverted kind: it multiplies the survivors by 1/(1 − p) in training and does nothing at
    test time. The two differ by that factor in what the next layer sees, hence in what an initialisation or a
    learning rate means. (2012 source: src/layer.cu, a mask without rescaling.)

    Any shape in, the same shape out. The mask comes from torch's default generator, by `torch.rand`.
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p = {p}; accepted is a probability from 0 up to, but not including, 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * (1 - self.p)
        return x * (torch.rand(x.shape, device=x.device) >= self.p)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"
