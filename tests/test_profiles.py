"""The profiles of photographs in miniature: all eleven notebooks on folders and archives of ten classes.

What is generated is sorted by class, as everything that is prepared from folders is, and stored as small as the
built-in pictures, so that the nets are small too.
"""

import io
import os
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from alexnet_lib import walkthrough
from alexnet_lib.dataset import load_dataset
from alexnet_lib.paths import NOTEBOOKS
from tests.small_ilsvrc import KIT2012, flat, kit2012, tar, truth, wnids

CLASSES = 10
SMALL = """
from alexnet_lib import dataset as _dataset
from alexnet_lib.data import ilsvrc as _ilsvrc
_dataset.STORE_SIZES |= {"imagenette": 73, "ilsvrc2012": 73}
_ilsvrc.CLASSES, _ilsvrc.PER_CLASS, _ilsvrc.CLASSES_SHA256 = 10, {"val": 3}, {}
"""
# "pictures": so few that the first ones would be of one class
SHORT = {"epochs": 1, "many_epochs": 1, "few_epochs": 1, "steps": 1, "pictures": 4, "batch_size": 64, "target": 0.99}


def picture(label, seed=0):
    """A JPEG of soft patches; how bright it is tells the class."""
    coarse = np.random.default_rng([label, seed]).integers(0, 60, (6, 6, 3), np.uint8) + np.uint8(15 * label)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((100, 90 + seed), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def make_imagenette(folder):
    for split, each in (("train", 8), ("val", 3)):
        for label in range(CLASSES):
            (folder / split / f"n{label:08d}").mkdir(parents=True)
            for i in range(each):
                (folder / split / f"n{label:08d}" / f"{i}.jpg").write_bytes(picture(label, i))


def make_cifar10(folder):
    """CIFAR-10 as folders of PNGs, for 02 and 03, which take it beside ILSVRC: the built-in pictures of its size."""
    for split, store in load_dataset("embedded32").items():
        names = [f"class{label}" for label in range(CLASSES)]
        for name in names:
            (folder / split / name).mkdir(parents=True)
        for i in np.flatnonzero(store.labels < CLASSES):
            Image.fromarray(store.images[i]).save(folder / split / names[store.labels[i]] / f"{i}.png")


def make_ilsvrc2012(folder):
    make_cifar10(folder.parent / "cifar10")
    folder.mkdir(parents=True)
    kinds = [picture(label, 20) for label in range(CLASSES)]
    members = [(f"{w}.tar", tar([(f"{w}_{i}.JPEG", picture(k, i)) for i in range(8)])) for k, w in enumerate(wnids(10))]
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar(members))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(flat(2012, "val", truth(CLASSES, 3)[0], kinds)))
    (folder / f"{KIT2012}.tar.gz").write_bytes(kit2012(CLASSES, 3, 8))


ALL = [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
# those in which the data decide what happens; ALEXNET_WHOLE_PROFILES=1 runs the others too
BY_DATA = {
    "imagenette": ["00_dataset"],  # folders of pictures
    "ilsvrc2012": ["00_dataset", "07_train", "09_qualitative"],
}


@pytest.mark.parametrize(("profile", "make"), [("imagenette", make_imagenette), ("ilsvrc2012", make_ilsvrc2012)])
def test_a_profile_runs_through_its_notebooks(tmp_path, monkeypatch, capfd, profile, make):
    notebooks = ALL if "ALEXNET_WHOLE_PROFILES" in os.environ else BY_DATA[profile]
    make(tmp_path / "data" / profile)
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "small.py").write_text(SMALL)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ALEXNET_RUNS", str(tmp_path / "runs"))
    known = set().union(*(walkthrough.declared_parameters(NOTEBOOKS / f"{name}.ipynb") for name in notebooks))
    changes = [word for name in SHORT.keys() & known for word in ("-p", name, str(SHORT[name]))]
    monkeypatch.chdir(tmp_path)
    Path("a picture of mine.jpg").write_bytes(picture(3, 40))
    changes += ["-p", "picture", "a picture of mine.jpg"] if "09_qualitative" in notebooks else []
    code = walkthrough.main(["--profile", profile, "--only", *notebooks, *changes])
    assert code == 0, capfd.readouterr().out
    if "09_qualitative" in notebooks:
        cells = nbformat.read(tmp_path / "runs" / "walkthrough" / profile / "09_qualitative.ipynb", 4).cells
        (occlusion,) = next(cell.outputs for cell in cells if cell.id == "occlusion-figure")
        assert re.search(r"yours: (thing|n)", occlusion.metadata["image/jpeg"]["alt"])  # in words, where there are any
