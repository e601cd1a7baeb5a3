"""Every figure says in words what it shows."""

import importlib

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from IPython.core.formatters import DisplayFormatter
from nbconvert import HTMLExporter
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook, new_output
from traitlets.config import Config, PyFileConfigLoader

from alexnet_lib.figures import curves as figures
from alexnet_lib.figures.descriptions import MOST, described, description
from alexnet_lib.files import read_json
from alexnet_lib.notebook import photographic
from alexnet_lib.paths import NOTEBOOKS, REPOSITORY

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FIGURES = REPOSITORY / "alexnet_lib" / "figures"
MODULES = sorted(f"figures.{p.stem}" for p in FIGURES.glob("*.py") if "\n@in_style\n" in p.read_text())
DRAWING = [
    function
    for module in MODULES
    for function in vars(importlib.import_module(f"alexnet_lib.{module}")).values()
    if hasattr(function, "__wrapped__") and function.__module__ == f"alexnet_lib.{module}"
]


@pytest.mark.parametrize("function", DRAWING, ids=lambda function: function.__name__)
def test_what_a_function_says_of_its_figure_is_for_everybody(function):
    """A sentence: no shapes, no names of arguments, no code."""
    said = description(plt.Figure(), function.__doc__)
    assert said.endswith(".") and 20 < len(said) < 140
    assert not any(sign in said for sign in "{}`[]_") and ", 3)" not in said


def test_names_are_read_from_the_figure():
    figure, axes = figures.new_figure(4, 2, 1, 2)
    for place, title in zip(axes[0], ("left\nhalf", "right half"), strict=True):
        place.barh([0, 1], [1, 2], label="measured")
        place.set_yticks([0, 1], ["ReLU", "tanh"])
        place.set(title=title, xlabel="epochs")
    axes[0, 1].legend()
    figure.colorbar(axes[0, 0].imshow(np.eye(2)), ax=axes[0, 0], label="grey levels")
    said = "A race. Panels: left half; right half. Across: epochs. Shade: grey levels."
    assert description(figure, "A race.\n\n    And more.") == f"{said} Rows: ReLU; tanh. Legend: measured."


def test_numbers_at_an_axis_are_not_read_aloud():
    figure, place = figures.new_figure(2, 2)
    place.plot([1, 1000], [1, 1000])
    place.set(yscale="log")
    assert description(figure, "A line.") == "A line."


def test_of_many_names_the_first_are_read():
    figure = figures.pictures([np.zeros((4, 4, 3), np.uint8)] * 24, [f"class {i}" for i in range(24)])
    assert figure.alt.endswith(f"class {MOST - 1}; and {24 - MOST} more.")


def test_a_picture_takes_its_words_along():
    """What IPython hands to a notebook beside the picture; nbconvert and the book read it there."""
    figure = figures.curves({"line": ([1, 2], [3, 4])}, "epoch", "error (%)")
    assert DisplayFormatter().format(figure)[1] == {"image/png": {"alt": figure.alt}}
    assert DisplayFormatter().format(photographic(figure))[1] == {"image/jpeg": {"alt": figure.alt}}


def test_the_first_sentence_is_taken():
    assert described(plt.Figure(), "One sentence of\n    two lines. Another one.").alt == "One sentence of two lines."


def exported(path, **settings):
    """The notebook as HTML in nbconvert's default template, as the environment's etc/jupyter sets it up."""
    config = PyFileConfigLoader("jupyter_config.py", str(FIGURES)).load_config()
    html, _ = HTMLExporter(config=config, **settings).from_filename(path)
    return html, BeautifulSoup(html, "html.parser")


@pytest.mark.parametrize("name", ["03_lrn", "05_augmentation", "09_qualitative"])
def test_the_descriptions_survive_nbconvert(name):
    """One picture of each output is shown."""
    html, page = exported(NOTEBOOKS / f"{name}.ipynb")
    pictures = [(img["alt"], img["src"].partition(",")[2]) for img in page.select(".jp-OutputArea-output img")]
    kept = [
        (output["metadata"][kind]["alt"], "".join(output["data"][kind]).strip())
        for cell in read_json(NOTEBOOKS / f"{name}.ipynb")["cells"]
        for output in cell.get("outputs", [])
        for kind in ("image/png", "image/jpeg")
        if kind in output.get("data", {})
    ]
    assert len(kept) > 3 and pictures == kept
    assert min(len(img["alt"]) for img in page.select("img")) > 20 and "No description" not in html


def test_a_sanitised_page_keeps_its_pictures():
    _, page = exported(NOTEBOOKS / "03_lrn.ipynb", sanitize_html=True)
    assert len(page.select("img[src^=data]")) > 3


def test_other_notebooks_lose_nothing(tmp_path):
    """A picture without a description stays as it is, one with keeps its size, and other settings keep their effect."""
    shown = {"plain": {}, "described": {"alt": "Two <lines>", "width": 30, "height": 20}}
    outputs = [
        new_output("display_data", {"image/png": PIXEL, "text/plain": "a figure"}, metadata={"image/png": about})
        for about in shown.values()
    ]
    path = tmp_path / "theirs.ipynb"
    write(new_notebook(cells=[new_code_cell("draw()", outputs=outputs)]), path)
    _, page = exported(path)
    plain_one, described_one = page.select(".jp-OutputArea-output img")
    assert plain_one["alt"] == "No description has been provided for this image"
    assert [described_one[name] for name in ("alt", "width", "height")] == ["Two <lines>", "30", "20"]

    config = PyFileConfigLoader("jupyter_config.py", str(FIGURES)).load_config()
    config.merge(Config({"Exporter": {"preprocessors": [without_code]}}))
    html, _ = HTMLExporter(config=config).from_filename(path)
    assert "draw()" not in html and "Two &lt;lines&gt;" in html


def without_code(notebook, resources):
    notebook.cells[0].source = ""
    return notebook, resources


def test_without_the_library_the_installed_settings_do_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert PyFileConfigLoader("jupyter_config.py", str(FIGURES)).load_config() == {}
