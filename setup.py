"""Everything stands in pyproject.toml; this lets `pip install -e .` install data files, as it does without -e."""

from setuptools import Distribution, setup

Distribution.has_data = Distribution.has_data_files  # setuptools asks for the first, and has only the second
setup()
