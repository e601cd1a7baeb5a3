"""Lies in the environment's etc/jupyter, where nbconvert and JupyterLab read it: HTML keeps the texts of pictures.

It adds to what else is configured, and does nothing once the library is gone.
"""

from importlib.util import find_spec

if find_spec("alexnet_lib"):
    preprocessors = get_config().HTMLExporter.preprocessors  # noqa: F821  (Jupyter runs this file, and gives it the name)
    preprocessors.append("alexnet_lib.figures.descriptions.with_descriptions")
