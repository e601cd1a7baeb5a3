"""torchvision's trained AlexNet as a net of ours: no reader without ImageNet needs to do without its weights."""

import torch
from torch import nn

from ..architecture import alexnet

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # which it takes off pixels from 0 to 1, and divides by


def from_torchvision(state_dict: dict) -> tuple[nn.Sequential, torch.Tensor]:
    """torchvision's trained AlexNet with its preprocessing, for `predict(net, images, mean)` and all that takes a net.

    torchvision's weights want (pixels / 255 - mean) / deviation. The divisions move into the first layer's weights, so
    that the net answers the same to pixels less a mean, as all of ours do.

    Args:
        state_dict: torchvision's, such as `torchvision.models.alexnet(weights="DEFAULT").state_dict()`.

    Returns:
        The net "owt2014" in evaluation mode, and the mean (3, 224, 224) on the 0-255 scale. Pictures are scaled to 256
        pixels and their centre is cut, as `prepare` and `predict` do.

    Raises:
        ValueError: not the weights of torchvision's AlexNet.
    """
    last = state_dict.get("classifier.6.weight")
    if last is None or "features.0.weight" not in state_dict:
        found = ", ".join([*state_dict][:3])
        raise ValueError(
            f"weights of {found}…; accepted is a state dict of torchvision's alexnet, from features.0.weight"
        )
    net = alexnet("owt2014", len(last), seed=0).eval()
    net.load_state_dict(state_dict)
    deviation, mean = (255 * torch.tensor(v).reshape(3, 1, 1) for v in (DEVIATION, MEAN))
    with torch.no_grad():
        net.conv1.weight /= deviation
    return net, mean.expand(3, 224, 224).contiguous()
