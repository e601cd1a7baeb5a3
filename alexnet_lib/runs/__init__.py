"""Runs: their settings, their records, and the processes that they take."""

from .. import lazily

NAMES = {
    "launch": "torchrun",
    "records": "reference",
    "notebooks": "ArchitectureSettings AugmentationSettings DatasetSettings DropoutSettings GoogLeNetSettings "
    "LrnSettings PoolingSettings QualitativeSettings ReluSettings ResultsSettings parameters",
    "settings": "TrainSettings find_device resolve",
}
__getattr__, __dir__, __all__ = lazily(__name__, NAMES)
