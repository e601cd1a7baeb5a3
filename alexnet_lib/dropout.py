"""§4.2, dropout as in 2012: in training half of the units are silent; at test time all speak, at half volume."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """In training sets each output to zero with probability p; at test time multiplies all by 1 − p.

    `torch.nn.Dropout` is the inverted kind: it multiplies the survivors by 1/(1 − p) in training and does nothing at
    test time. What the next layer sees differs by that factor, and so does what an initialisation or a learning rate
    means. (2012 source: src/layer.cu, a mask without rescaling.) Any shape; the mask is from torch's own generator.
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
