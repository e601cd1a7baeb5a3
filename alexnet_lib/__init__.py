"""AlexNet, executable: the library behind the notebooks. One module a section of the paper."""

from .architecture import alexnet
from .augmentation import add_colour_noise, random_crops, ten_views
from .dataset import load_dataset, open_store, prepare
from .evaluation import top_k_error
from .learning import PaperSGD, PlateauRule, recipe
from .normalization import LocalResponseNorm
from .preparation import colour_pca

__all__ = [
    "LocalResponseNorm",
    "PaperSGD",
    "PlateauRule",
    "add_colour_noise",
    "alexnet",
    "colour_pca",
    "load_dataset",
    "open_store",
    "prepare",
    "random_crops",
    "recipe",
    "ten_views",
    "top_k_error",
]
