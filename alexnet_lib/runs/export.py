"""Out again: a finished run as a folder that others can use without its data, its records, or this library.

model.safetensors    the weights, by the names of the net's layers
net.pt2, net.onnx    the net with its weights as a program, by torch.export, and by ONNX where that is installed
mean.npy             float32 (3, crop, crop), what is taken off the pixels
config.json          the run's settings, and its classes in the order of the net's answers, of ImageNet in words too
README.md            a model card: data, recipe, errors, licence, and how to prepare a picture

python -m alexnet_lib.runs.export RUN [DEST]
"""

import argparse
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from ..commands import ends_well
from ..dataset import Store
from ..evaluation import mean_of
from ..files import Damaged, damage, npy_bytes, publish, read_json, sync, write_file, write_json
from ..training import build_net, kind_of, load_net
from .fields import check
from .folder import data_of, require_fit
from .records import Record, are_finite
from .stored import Exported

OF_EXPORT = ("classes", "words")  # in config.json, beside the run's settings
AGAIN = "Export the run again, or get another copy"
OWN_DATA = ("embedded", "embedded32")  # drawn by this library
TERMS = {
    "ilsvrc": "ImageNet's pictures may be used for non-commercial research and education, as its terms of access say",
    "imagenette": "its pictures are ImageNet's, which may be used for non-commercial research and education",
    "tiny_imagenet": "its pictures are ImageNet's, which may be used for non-commercial research and education",
}
RECIPE = ("recipe", "initialisation", "epochs", "stages", "batch_size", "learning_rate", "weight_decay", "augmentation")
RECIPE += ("dropout", "width", "normalization", "pooling", "activation", "without", "geometry", "precision", "seed")
CARD = """---
license: {licence}
library_name: pytorch
pipeline_tag: image-classification
tags: ["alexnet"]
model-index: {index}
---

# {title}

The net `{net}` of the AlexNet walkthrough, for pictures of {crop} × {crop} pixels and {classes} classes, with
{parameters:,} parameters. These files hold its weights and the mean image; none of the pictures that it learned from.

## Data

{dataset}: {images}. Fingerprints of what it was prepared from: {fingerprints}.

## Recipe

{recipe}. It ended after {epochs} ({ended}); torch {torch}, commit {commit}.

## Errors

| pictures | views of each | top-1 error | top-5 error |
|---|---|---|---|
{errors}

## Licence

{terms}

## How to prepare a picture

RGB, from 0 to 255; the shorter side is scaled to {size} pixels (bilinear, with antialiasing), and the central square of
{crop} pixels is cut out; `mean.npy` is taken off{division}. Ten views are the four corners and the centre of the
central {size} × {size} pixels, and their mirror images; the probabilities are averaged.

```python
import json

import numpy as np
import torch
from PIL import Image

picture = Image.open("picture.jpg").convert("RGB")
shorter = min(picture.size)
picture = picture.resize([{size} * side // shorter for side in picture.size], Image.Resampling.BILINEAR)
left, top = ((side - {size}) // 2 + {border} for side in picture.size)
pixels = np.asarray(picture.crop((left, top, left + {crop}, top + {crop})), np.float32).transpose(2, 0, 1)
x = torch.from_numpy((pixels - np.load("mean.npy")) / {divisor:g})[None]
probabilities = torch.export.load("net.pt2").module()(x).softmax(1)[0]
print(json.load(open("config.json"))["classes"][probabilities.argmax()])
```

With the library, as a module to train on: `net = alexnet_lib.runs.export.load(".")`. The weights alone:
`safetensors.torch.load_file("model.safetensors")`.
"""


def export(record: Record, destination: Path | None = None) -> Path:
    """Write a finished run's net to a new folder, `export` in the run's own unless given; the files are listed above.

    Its data must be prepared, for their mean image and the names of their classes.

    Raises:
        FileExistsError: the folder is there already.
        FileNotFoundError: the run has no weights, or its data are not there.
        ValueError: damaged weights, or other data under the name.
    """
    from safetensors.torch import save  # here, because to train takes none of it

    destination = destination or record.folder / "export"
    if destination.exists():
        raise FileExistsError(f"{destination} is there already; remove it, or name another folder")
    net, stores = load_net(record).to(memory_format=torch.contiguous_format), data_of(record)
    store, crop = stores["train"], record.config["image_size"]
    config = record.config | {"dataset": Path(record.config["dataset"]).name, "classes": store.classes}
    config |= {"words": store.meta["words"]} if "words" in store.meta else {}
    work = destination.with_name(f".{destination.name}.partial")
    shutil.rmtree(work, ignore_errors=True)  # of an export that was killed
    work.mkdir(parents=True)
    mean = mean_of(store, crop)
    write_file(work / "mean.npy", npy_bytes(mean.numpy()))
    write_json(work / "config.json", config)
    write_file(work / "README.md", card(record, store).encode())
    write_file(work / "model.safetensors", save(net.state_dict(), {"format": "pt"}))
    _write_programs(net, torch.zeros(2, 3, crop, crop), work)
    for path in work.iterdir():  # also what torch has written is on disk before it counts
        with open(path, "rb+") as file:
            sync(file)
    publish(work, destination)
    return destination


def load(folder) -> nn.Module:
    """The net of an exported folder, on the CPU, in evaluation mode.

    Raises:
        OSError, ValueError: no such folder, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path, weights = Path(folder) / "config.json", Path(folder) / "model.safetensors"
    config = read_json(path, Exported, AGAIN)
    classes = config["classes"]
    try:
        saved = load_file(weights)
        settings = check(kind_of(config), {k: v for k, v in config.items() if k not in OF_EXPORT} | {"device": "cpu"})
        own = settings.skeleton(len(classes)).state_dict()  # without memory, as far as can be
    except SafetensorError as error:  # of no kind that Python has
        raise damage(weights, f"it can't be read ({error})", "the net's weights", AGAIN) from None
    except ValueError as error:
        raise Damaged(f"{path}: {error}. {AGAIN}") from None
    require_fit(weights, saved, own, again=AGAIN)
    if any(saved[name].dtype != own[name].dtype for name in own) or not are_finite(saved.values()):
        raise damage(weights, "weights that are not finite or of another type", "finite float32 numbers", AGAIN)
    net = build_net(settings, len(classes))
    net.load_state_dict(saved)
    return net.eval()


def _write_programs(net: nn.Module, example: Tensor, folder: Path) -> None:
    """The net as programs that take any number of images."""
    free = ({0: torch.export.Dim("images")},)
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=free), folder / "net.pt2")
    if has_onnx():
        options = {"dynamic_shapes": free, "dynamo": True, "external_data": False, "verbose": False}
        torch.onnx.export(net, (example,), folder / "net.onnx", **options)


def has_onnx() -> bool:
    """Whether what torch needs to write ONNX is installed."""
    return all(find_spec(name) for name in ("onnx", "onnxscript"))


def card(record: Record, store: Store) -> str:
    """The model card of a run, whose training store this is."""
    config, summary, name = record.config, record.summary, Path(record.config["dataset"]).name
    views = [(split, views, errors) for split, found in summary["metrics"].items() for views, errors in found.items()]
    tested = [entry for entry in views if entry[0] != "train"]
    own, divisor = config["dataset"] in OWN_DATA, config.get("input_divisor", 1.0)
    return CARD.format(
        licence="mit" if own else "other",
        index=json.dumps(_results(record.folder.name, name, tested), ensure_ascii=False),
        title=record.folder.name,
        net=config["net"],
        crop=config["image_size"],
        size=store.size,
        border=(store.size - config["image_size"]) // 2,
        classes=summary["classes"],
        parameters=summary["parameters"],
        dataset=name,
        images=", ".join(f"{count:,} pictures of {split}" for split, count in summary["images"].items()),
        fingerprints=", ".join(f"{split} {value[:16]}" for split, value in summary["dataset"].items()),
        recipe=", ".join(f"{field} {config[field]}" for field in RECIPE if config.get(field) is not None),
        epochs="1 epoch" if summary["epochs"] == 1 else f"{summary['epochs']} epochs",
        ended=summary.get("ended", "schedule"),
        torch=summary["versions"]["torch"],
        commit=summary["commit"],
        errors="\n".join(f"| {split} | {v} | {e['top1']:.2%} | {e['top5']:.2%} |" for split, v, e in tested),
        terms=terms_of(name),
        divisor=divisor,
        division="" if divisor == 1 else f", and the rest divided by {divisor:g}",
    )


def terms_of(dataset: str) -> str:
    """In a sentence or two, what others may do with a net that learned from this data set."""
    name = Path(dataset).name
    if dataset in OWN_DATA:
        return "MIT, as the code and the drawn pictures that it learned from."
    terms = (text for of, text in TERMS.items() if name.startswith(of))
    terms = next(terms, "whoever passes the weights on minds them")
    return f"The code is under the MIT licence. The pictures have terms of their own: {terms}."


def _results(title: str, dataset: str, tested: list) -> list[dict]:
    """The errors as the header of a model card has them."""
    metrics = [
        {"type": "accuracy", "name": f"top-{k} accuracy, {split}, {views}", "value": round(1 - errors[f"top{k}"], 6)}
        for split, views, errors in tested
        for k in (1, 5)
    ]
    task, data = {"type": "image-classification"}, {"name": dataset, "type": dataset}
    return [{"name": title, "results": [{"task": task, "dataset": data, "metrics": metrics}]}]


def main(arguments=None) -> None:
    described = "Write a finished run's net as safetensors, programs and a model card."
    parser = argparse.ArgumentParser("python -m alexnet_lib.runs.export", description=described)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("destination", type=Path, nargs="?", help="a new folder (export in the run's)")
    given = parser.parse_args(arguments)
    with ends_well(parser, "the run is as it was, and nothing is half exported"):
        folder = export(Record.open(given.run), given.destination)
    if not has_onnx():
        print("no net.onnx: it takes the packages onnx and onnxscript")
    print(folder)


if __name__ == "__main__":
    main()
