"""What notebooks show beside figures, and how they speak of progress."""

import json
import re

import pandas as pd
import pytest

from alexnet_lib import notebook
from alexnet_lib.figures import curves as figures
from alexnet_lib.progress import PIPE, progress_bar, progress_style


def test_facts_separate_thousands_and_escape():
    shown = notebook.facts({"a < b": 60_965_224, "share": 0.5, "yes": True}).data
    assert "60,965,224" in shown and "a &lt; b" in shown and "True" in shown


def test_a_photographic_figure_is_a_jpeg():
    figure = figures.curves({"line": ([1, 2], [3, 4])}, "epoch", "loss")
    assert notebook.photographic(figure).data[:2] == b"\xff\xd8"


@pytest.mark.parametrize("name_of_columns", [None, "verdict"])
def test_words_stand_to_the_left_and_numbers_to_the_right(name_of_columns):
    table = pd.DataFrame({"layer": ["<conv1>", None], "weights": [34848, 2], "share": [0.5, None]})
    shown = notebook.plain(table.rename_axis(columns=name_of_columns)).data
    sides = re.findall(r'<t[hd] style="text-align: (\w+)">([^<]*)<', shown)
    assert sides[:3] == [("left", "layer"), ("right", "weights"), ("right", "share")]
    assert sides[3:6] == [("left", "&lt;conv1&gt;"), ("right", "34,848"), ("right", "0.5")]
    assert [side for side, _ in sides[6:]] == ["left", "right", "right"]


@pytest.mark.parametrize(("chosen", "style"), [("bar", "bar"), ("lines", "lines"), ("none", "none")])
def test_the_style_can_be_chosen(monkeypatch, chosen, style):
    monkeypatch.setenv("ALEXNET_PROGRESS", chosen)
    assert progress_style() == style


def test_an_unknown_style_is_an_error(monkeypatch):
    monkeypatch.setenv("ALEXNET_PROGRESS", "loud")
    with pytest.raises(ValueError, match="'loud'; accepted are auto, bar, lines, none"):
        progress_style()


def test_jupyterlab_gets_a_bar_and_papermill_lines(monkeypatch):
    monkeypatch.delenv("ALEXNET_PROGRESS", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert progress_style() == "lines"
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/07_train.ipynb")
    assert progress_style() == "bar"


@pytest.mark.parametrize(("style", "lines"), [("lines", range(5, 9)), ("none", range(1))])
def test_lines_are_sparse(monkeypatch, capsys, style, lines):
    monkeypatch.setenv("ALEXNET_PROGRESS", style)
    with progress_bar(1000, "training", "step") as bar:
        for _ in range(1000):
            bar.update(1)
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) in lines and not printed.err


def test_a_job_tells_where_it_begins_and_ends(monkeypatch, capsys):
    monkeypatch.setenv("ALEXNET_PROGRESS", PIPE)
    with progress_bar(10, "training", "step", initial=3) as bar:
        bar.set_postfix_str("loss 2.0", refresh=False)
        for _ in range(7):
            bar.update(1)
        told = [json.loads(line.removeprefix(PIPE)) for line in capsys.readouterr().out.splitlines()]
    assert told[0] | {"postfix": ""} == {"n": 3, "total": 10, "initial": 3, "postfix": ""}
    assert told[-1] == {"n": 10, "total": 10, "initial": 3, "postfix": "loss 2.0"}  # before the bar is closed
    assert len(told) < 8


def test_curves_are_redrawn_only_where_somebody_watches(monkeypatch):
    monkeypatch.setenv("ALEXNET_PROGRESS", "lines")
    assert notebook.live_curves(10) is None
    monkeypatch.setenv("ALEXNET_PROGRESS", "bar")
    shown = []
    monkeypatch.setattr(notebook, "display", lambda figure, display_id: shown.append(figure) or Handle(shown))
    row = {"epoch": 1, "loss": 1.0, "top1": 0.5, "top5": 0.1, "learning_rate": 0.1}
    history = pd.DataFrame([{**row, "split": split} for split in ("train", "val")])
    draw = notebook.live_curves(10)
    draw(history)
    draw(history)
    assert len(shown) == 2 and shown[0] is not shown[1]


class Handle:
    def __init__(self, shown):
        self.update = shown.append


def test_a_slider_is_a_figure_where_nobody_watches(monkeypatch):
    monkeypatch.setenv("ALEXNET_PROGRESS", "none")
    assert notebook.slider(lambda width: figures.new_figure(width, 1)[0], width=([1, 2], 2)).get_figwidth() == 2


@pytest.fixture
def cell(monkeypatch):
    """What a cell displays where somebody watches: its outputs in order, and the widgets that it made."""
    from IPython.display import DisplayHandle

    outputs, widgets = [], []
    monkeypatch.setenv("ALEXNET_PROGRESS", "bar")

    def display(shown, display_id=False, raw=False):
        outputs.append(shown)
        handle = DisplayHandle()
        handle.update = outputs.append
        return handle if display_id else None

    monkeypatch.setattr(notebook, "display", display)
    box = notebook.ipywidgets.VBox
    monkeypatch.setattr(notebook.ipywidgets, "VBox", lambda of: widgets.extend(of) or box(of))
    return outputs, widgets


def test_a_slider_redraws_where_somebody_watches(cell):
    outputs, widgets = cell
    shown = notebook.slider(lambda w, h: figures.new_figure(w, h)[0], w=([1, 2], 2), h=([1, 3], 1))
    assert shown is None and len(outputs) == 2
    widgets[0].value = 1
    widgets[1].value = 3
    assert [tuple(figure.get_size_inches()) for figure in outputs[1:]] == [(2, 1), (1, 1), (1, 3)]


def test_a_saved_slider_is_a_picture_beside_words(cell):
    """The widget dies with the kernel; what is saved is a figure of its own, and words in place of the controls."""
    outputs, _ = cell
    notebook.slider(lambda width: figures.new_figure(width, 1)[0], width=([1, 2], 2))
    assert outputs[0]["text/plain"] == "(run this cell to choose: width)"
    assert "application/vnd.jupyter.widget-view+json" in outputs[0] and outputs[1].get_figwidth() == 2


def test_the_ledger_can_be_chosen_from(cell, monkeypatch):
    from alexnet_lib.ledger.claims import claims

    outputs, widgets = cell
    table = claims("06_dropout").assign(verdict=lambda t: ["holds"] + ["differs"] * (len(t) - 1))
    assert notebook.browse(table) is None
    before = outputs[-1].data
    widgets[1].value = "holds"
    assert outputs[-1].data.count("<tr>") < before.count("<tr>") and "differs" not in outputs[-1].data
    monkeypatch.setenv("ALEXNET_PROGRESS", "none")
    assert notebook.browse(table).data == before and all(text in before for text in ("how", "differs", "dropout"))
