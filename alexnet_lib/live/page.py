"""The net of a finished run as one HTML file in which it looks at pictures: no server, no network, nothing to install.

    python -m alexnet_lib.live RUN [FILE]

The page is page.html with style.css, the scripts and the sentences of guide.toml, as they stand in this folder. What
was learned lies in it as base64: weights in half precision, the mean image, some validation pictures as pixels, and
training pictures with their last hidden layer, among which it looks for neighbours. The arithmetic is our own:
TensorFlow.js would add a megabyte and dozens of packages to install, and save some milliseconds a picture at best
(benchmarks/live.py).
"""

import argparse
import base64
import io
import json
from html import escape
from pathlib import Path
from string import Template

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..architecture import layer_shapes, skeleton
from ..augmentation import VIEWS, centre_crops
from ..commands import ends_well
from ..dataset import Store
from ..dropout import Dropout
from ..evaluation import mean_of, predict
from ..files import write_file
from ..normalization import LocalResponseNorm, SpatialResponseNorm
from ..qualitative import hidden_features
from ..runs.export import terms_of
from ..runs.folder import data_of
from ..runs.records import Record
from ..training import load_net
from .guide import Link, guide

HERE = Path(__file__).parent
SCRIPTS = ("net.js", "draw.js", "page.js", "figure.js", "touch.js")
MOST_WEIGHTS = 20_000_000  # 50 MB of page; a browser takes a second or more for a picture
SHOWN, KNOWN = 24, 480  # validation pictures to look at, and training pictures to find


def live(record: Record, destination: Path | None = None, link: Link | None = None) -> Path:
    """Write the page of a finished run, live.html in its folder unless a file is given.

    Args:
        link: the address of a notebook's section, given the names of both; without it the page's own sections.

    Raises:
        FileNotFoundError: the run has no weights, or its data are not there.
        ValueError: a net that the page can't run, damaged weights, or other data under the name.
    """
    destination = destination or record.folder / "live.html"
    net, stores = load_net(record), data_of(record)
    layers = described(net, record.config)
    shown, known = stores["val"].spread(SHOWN), stores["train"].spread(KNOWN)
    mean = mean_of(stores["train"], record.config["image_size"])
    exact = predict(net, shown.images, mean)
    lost = (exact - predict(halved(net), shown.images, mean)).abs().max().item()
    about = {
        "layers": layers,
        "crop": record.config["image_size"],
        "size": shown.size,
        "classes": [said(name) for name in stores["train"].meta.get("words", shown.classes)],
        "labels": np.asarray(shown.labels).tolist(),
        "known": np.asarray(known.labels).tolist(),
        "views": VIEWS[10],
        "eigenvalues": stores["train"].pca.eigenvalues.tolist(),
        "eigenvectors": stores["train"].pca.eigenvectors.tolist(),
    }
    hidden = [layer["name"] for layer in layers if layer["kind"] == "activation"][-1]
    features, scales = as_bytes(hidden_features(net, known.images, mean, hidden))
    binary = {
        "weights": np.concatenate([w.detach().numpy().ravel() for w in net.parameters()]).astype("<f2"),
        "mean": mean.numpy().astype("<f4"),
        "pictures": np.asarray(shown.images),
        "features": features,
        "scales": scales.astype("<f4"),
        "thumbnails": np.frombuffer(contact_sheet(known, about["crop"]), np.uint8),
    }
    coded = {name: base64.b64encode(np.ascontiguousarray(values)).decode() for name, values in binary.items()}
    page = Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        scripts="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        about=json.dumps(about).replace("</", "<\\/"),
        data="\n".join(f'<script type="text/plain" id="{k}">{v}</script>' for k, v in coded.items()),
        run=escape(told(record)),
        lost=f"{lost:.2%}",
        terms=escape(terms_of(record.config["dataset"])),
        **guide(link),
    )
    write_file(destination, page.encode())
    return destination


def halved(net: nn.Module) -> nn.Module:
    """The net with its weights rounded to half precision, as the page has them."""
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(weight.half())
    return net


def described(net: nn.Module, config: dict) -> list[dict]:
    """What net.js wants to know of each layer, in order; "paper" is the shape of the full-size net.

    Raises:
        ValueError: a layer of another kind than AlexNet's, or too many weights.
    """
    if (weights := sum(p.numel() for p in net.parameters())) > MOST_WEIGHTS:
        raise ValueError(f"a net of {weights:,} weights; a page takes up to {MOST_WEIGHTS:,}")
    shapes, layers = layer_shapes(net, config["image_size"]), []
    for name, layer in net.named_children():
        known = {"name": name, "shape": shapes[name], "parameters": sum(p.numel() for p in layer.parameters())}
        layers.append(known | _kind(name, layer, config["net"]))
    whole = layer_shapes(skeleton(config["net"]))
    return [layer | {"paper": whole[layer["name"]]} if layer["name"] in whole else layer for layer in layers]


def _kind(name: str, layer: nn.Module, net: str) -> dict:
    match layer:
        case nn.ZeroPad2d():
            return {"kind": "pad"}
        case nn.Conv2d():
            window = {"kernel": layer.kernel_size[0], "stride": layer.stride[0], "padding": layer.padding[0]}
            return {"kind": "conv", "groups": layer.groups} | window
        case nn.Linear():
            return {"kind": "fc"}
        case LocalResponseNorm():
            constants = {"n": layer.n, "k": layer.k, "alpha": layer.alpha, "beta": layer.beta}
            reading = "sum" if layer.convention == "paper" else "mean"
            return {"kind": "norm", "columns": layer.columns, "reading": reading} | constants
        case SpatialResponseNorm():
            constants = {"n": layer.size, "k": layer.k, "alpha": layer.alpha, "beta": layer.beta}
            return {"kind": "mapnorm"} | constants
        case nn.MaxPool2d():
            return {"kind": "pool", "window": layer.kernel_size, "stride": layer.stride}
        case Dropout() | nn.Dropout():
            return {"kind": "drop", "p": layer.p, "inverted": isinstance(layer, nn.Dropout)}
        case nn.Flatten():
            return {"kind": "flatten"}
        case nn.ReLU() | nn.Tanh() | nn.Sigmoid():
            names = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "logistic"}
            return {"kind": "activation", "function": names[type(layer)]}
    raise ValueError(f"{net} has a layer {name}, a {type(layer).__name__}; a page runs AlexNet and its variants")


def as_bytes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, units) as int8, and what each picture's are to be multiplied by, (N,)."""
    scales = np.maximum(np.abs(features).max(1), 1e-12) / 127
    return (features / scales[:, None]).round().astype(np.int8), scales


def contact_sheet(store: Store, crop: int, across: int = 24) -> bytes:
    """The centre crops of all pictures side by side, as WebP."""
    crops = centre_crops(np.asarray(store.images), crop)
    rows = -(-len(crops) // across)
    crops = np.concatenate([crops, np.zeros((rows * across - len(crops), *crops.shape[1:]), np.uint8)])
    sheet = crops.reshape(rows, across, crop, crop, 3).swapaxes(1, 2).reshape(rows * crop, across * crop, 3)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "WEBP", quality=75)
    return file.getvalue()


def said(name: str) -> str:
    """A class as one says it: the first of ImageNet's words."""
    return name.split(",")[0].replace("_", " ")


def told(record: Record) -> str:
    """One line on the run: its net, its data, its errors."""
    config, summary, data = record.config, record.summary, Path(record.config["dataset"]).name
    width = "" if config["width"] == 1 else f" at {config['width']:g} of the width"
    errors = [f"{e['top1']:.1%} with {views}" for views, e in summary["metrics"].get("val", {}).items()]
    return (
        f"The net “{config['net']}”{width}, {summary['parameters']:,} parameters, trained for {summary['epochs']} "
        f"epochs on {summary['images']['train']:,} pictures of {summary['classes']} classes ({data}). Top-1 error on "
        f"validation pictures: {', '.join(errors)}."
    )


def main(arguments=None) -> None:
    described = "Write one HTML file in which a finished run's net looks at pictures."
    parser = argparse.ArgumentParser("python -m alexnet_lib.live", description=described)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("file", type=Path, nargs="?", help="the page (live.html in the run's folder)")
    given = parser.parse_args(arguments)
    with ends_well(parser, "the run is as it was, and the page is whole or as it was"):
        print(live(Record.open(given.run), given.file))
