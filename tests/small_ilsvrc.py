"""ILSVRC in small: archives of the official layout, with pictures of one colour for each class."""

import io
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat

KIT2012, KIT2010 = "ILSVRC2012_devkit_t12", "devkit-1.0"
FEW = 4  # classes, in all tests but one


def wnids(count=FEW):
    return [f"n{10_000_000 + 37 * i}" for i in range(count)]


def colour(label):
    """Each class has a colour of its own, far enough from the others to survive JPEG."""
    return (60 * (label % 5), 60 * (label // 5 % 5), 60 * (label // 25 % 5))


def picture(label, seed=0):
    file = io.BytesIO()
    Image.new("RGB", (16 + seed, 12), colour(label)).save(file, "JPEG", quality=95)
    return file.getvalue()


def member(name, **changes):
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


def tar(entries, compressed=False):
    """The bytes of a tar of (name or TarInfo, content)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz" if compressed else "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in entries:
            info = member(name) if isinstance(name, str) else name
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def meta_mat(year, count=FEW, pictures=2):
    """The numbers of the kit run against the order of the WNIDs; beside the classes stands a parent of theirs."""
    fields = [f"ILSVRC{year}_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height"]
    rows = [(count - i, name, f"thing {i}, stuff", "", 0, 0, 0, pictures) for i, name in enumerate(wnids(count))]
    rows = [*sorted(rows), (count + 1, "n00000001", "parent", "", 2, [1, 2], 1, 0)]
    synsets = np.empty((len(rows), 1), [(field, object) for field in [*fields, "num_train_images"]])
    synsets[:, 0] = rows
    file = io.BytesIO()
    savemat(file, {"synsets": synsets})
    return file.getvalue()


def truth(count, each):
    """Labels of the pictures 1, 2, … and the same as the kit's numbers, one a line."""
    labels = np.random.default_rng(7).permutation(np.repeat(np.arange(count), each))
    return labels, "".join(f"{count - label}\n" for label in labels).encode()


def flat(year, split, labels, kinds=None):
    """(name, content) of the pictures of a validation or test archive, in no order."""
    kinds = kinds or [picture(label) for label in range(labels.max() + 1)]
    names = [f"{split}/ILSVRC{year}_{split}_{i:08d}.JPEG" for i in range(1, len(labels) + 1)]
    return [(names[i], kinds[labels[i]]) for i in np.random.default_rng(1).permutation(len(labels))]


def inner(label, name, pictures=2):
    return tar([(f"{name}_{i}.JPEG", picture(label, i)) for i in range(pictures)])


def train(count=FEW, pictures=2):
    """(name, content) of the members of a training archive: a tar for each class."""
    return [(f"{name}.tar", inner(label, name, pictures)) for label, name in enumerate(wnids(count))]


def kit2012(count=FEW, each=2, pictures=2):
    text = truth(count, each)[1]
    files = {"data/meta.mat": meta_mat(2012, count, pictures), "data/ILSVRC2012_validation_ground_truth.txt": text}
    return tar([(f"{KIT2012}/{name}", data) for name, data in {**files, "readme.txt": b"read"}.items()], True)


def make_2012(folder):
    """The files of ILSVRC-2012 as they are distributed."""
    folder.mkdir()
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar(train()))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(flat(2012, "val", truth(FEW, 2)[0])))
    (folder / f"{KIT2012}.tar.gz").write_bytes(kit2012())


def make_2010(folder):
    """The files of ILSVRC-2010 as they are distributed."""
    folder.mkdir()
    (folder / "ILSVRC2010_images_train.tar").write_bytes(tar(train()))
    (folder / "ILSVRC2010_images_val.tar").write_bytes(tar(flat(2010, "val", truth(FEW, 2)[0])))
    (folder / "ILSVRC2010_images_test.tar").write_bytes(tar(flat(2010, "test", truth(FEW, 3)[0])))
    (folder / "ILSVRC2010_test_ground_truth.txt").write_bytes(truth(FEW, 3)[1])
    files = {"meta.mat": meta_mat(2010), "ILSVRC2010_validation_ground_truth.txt": truth(FEW, 2)[1]}
    kit = tar([(f"{KIT2010}/data/{name}", data) for name, data in files.items()], True)
    (folder / "ILSVRC2010_devkit-1.0.tar.gz").write_bytes(kit)


def unpacked(folder):
    """The same as folders, one for each class."""
    year, tree = folder.name[-4:], folder.parent / "tree" / folder.name
    for split, each in [("train", 2), ("val", 2)] + [("test", 3)] * (year == "2010"):
        for label, name in enumerate(wnids()):
            (tree / split / name).mkdir(parents=True)
            for i in range(each if split == "train" else 0):
                (tree / split / name / f"{name}_{i}.JPEG").write_bytes(picture(label, i))
        for i, label in enumerate(truth(FEW, each)[0] if split != "train" else [], 1):
            (tree / split / wnids()[label] / f"ILSVRC{year}_{split}_{i:08d}.JPEG").write_bytes(picture(label))
    return tree
