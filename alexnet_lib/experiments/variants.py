"""The variants of a run that `ablations` compares: what each changes and lacks, and which questions ask for it."""

import dataclasses
import math
from dataclasses import dataclass

from ..dataset import Store
from ..runs.records import differences, in_words
from ..runs.settings import TrainSettings, resolve
from ..study.log2012 import logged_gain

UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Variant:
    """The settings that a variant changes, and what it lacks of the paper, "" where that is no part of it.

    paper, log2012: by how many points the lack raised the errors there (top-1, top-5).
    """

    changes: dict
    section: str = ""
    lacks: str = ""
    paper: tuple[float, float] = UNKNOWN
    log2012: tuple[float, float] = UNKNOWN


VARIANTS = {
    "baseline": Variant({}),
    "non-overlapping": Variant({"pooling": "non_overlapping"}),
    "one-gpu": Variant(
        {"net": "one_gpu"}, "3.2", "half its kernels", (1.7, 1.2), logged_gain("145-half", "145-2010", "2010 test")
    ),
    "no-lrn": Variant({"normalization": None}, "3.3", "normalisation", (1.4, 1.2), logged_gain("148", "145")),
    "run147": Variant({"pooling": "run147"}, "3.4", "overlapping pooling", (0.4, 0.3), logged_gain("147", "145")),
    "no-augmentation": Variant({"augmentation": "none"}, "4.1", "crops, reflections and colour noise"),
    "colours-only": Variant({"augmentation": "colours"}, "4.1", "crops and reflections"),
    "crops-only": Variant({"augmentation": "crops"}, "4.1", "colour noise", (1.0, math.nan)),  # "over 1 %"
    "no-dropout": Variant({"dropout": 0.0}, "4.2", "dropout"),
    "no-decay": Variant({"recipe": "undecayed"}, "5", "weight decay"),
    "steady-rate": Variant({"recipe": "steady"}, "5", "a falling rate"),
    # how many epochs it has: see `changes`
    "shorter": Variant({}, "7", "half as many epochs again", log2012=logged_gain("145", "145, longer")),
    "without-conv1": Variant({"without": "conv1"}, "7", "convolution 1"),
    "without-conv2": Variant({"without": "conv2"}, "7", "convolution 2", (2.0, math.nan)),  # "about 2 %"
    "without-conv3": Variant({"without": "conv3"}, "7", "convolution 3", (2.0, math.nan)),
    "without-conv4": Variant({"without": "conv4"}, "7", "convolution 4", (2.0, math.nan)),
    "without-conv5": Variant({"without": "conv5"}, "7", "convolution 5"),
    "net-2012": Variant({"net": "code2012"}, "3", "the printed layers, not the program's"),
    "init-printed": Variant({"initialisation": "printed"}, "5", "weights enlarged for its width, drawn as printed"),
    "init-2012": Variant({"initialisation": "code2012"}, "5", "weights enlarged for its width, drawn as in 2012"),
}
QUESTIONS = {
    "pooling": ("baseline", "non-overlapping", "run147"),
    "dropout": ("baseline", "no-dropout"),
    "augmentation": ("baseline", "crops-only", "no-augmentation"),
    "parts": (
        *("baseline", "no-lrn", "one-gpu", "colours-only", "without-conv1", "without-conv2", "without-conv3"),
        *("without-conv4", "without-conv5", "init-printed", "init-2012", "net-2012"),
    ),
    "decay": ("baseline", "no-decay"),
    "schedule": ("baseline", "steady-rate", "shorter"),
    # the parts whose worth can be measured with 200 classes
    "worth": (
        *("baseline", "no-lrn", "no-dropout", "colours-only", "crops-only", "one-gpu", "run147", "no-decay"),
        *("without-conv3", "without-conv4", "without-conv5", "init-printed", "init-2012"),
    ),
}
# what the pictures, the net or the recipe decide where nobody does: a variant takes it from its baseline
HELD = ("recipe", "epochs", "batch_size", "learning_rate", "initialisation")


def variant_of(settings: TrainSettings, variant: str, store: Store) -> TrainSettings:
    """The resolved settings of a variant: the baseline's, but for what it changes.

    Raises:
        ValueError: here it would change something else as well, or nothing.
    """
    base = resolve(settings, store)
    asked = changes(variant, base.epochs)
    if "recipe" in asked and base.recipe != "small":
        raise ValueError(
            f"{variant} is the recipe 'small' less one thing; found recipe = {base.recipe!r}. Say --recipe small, or "
            "name other variants with --only"
        )
    run = resolve(dataclasses.replace(settings, **{name: getattr(base, name) for name in HELD} | asked), store)
    unlike = differences(dataclasses.asdict(base), dataclasses.asdict(run))
    if unlike.keys() != asked.keys():
        same = ", ".join(f"{name} is {value!r} already" for name, value in asked.items())
        found = in_words(unlike, "here") if unlike else f"nothing: {same}"
        raise ValueError(
            f"{variant} should change {', '.join(asked)} of the baseline, and changes {found}. Name other variants "
            "with --only, or change the baseline"
        )
    return run


def changes(variant: str, epochs: int) -> dict:
    """The settings that a variant changes, beside a baseline of `epochs`."""
    if variant == "shorter":  # the baseline is half as long again
        return {"epochs": max(1, epochs * 2 // 3)}
    return VARIANTS[variant].changes
