"""What a figure shows in words, for those who cannot see it: said by its function, and read from its axes."""

from collections.abc import Iterable
from html import escape

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FuncFormatter

MOST = 8  # names of one kind; a screen reader reads all of them aloud
SIDES = ("left", "center", "right")


def described(figure: Figure, what: str) -> Figure:
    """The figure with its description as `alt`, which goes with its picture into a notebook.

    IPython takes the metadata of a picture from this method, and the picture, which is not among what it gives, from
    matplotlib.
    """
    figure.alt = description(figure, what)
    figure._repr_mimebundle_ = lambda include=None, exclude=None: ({}, {"image/png": {"alt": figure.alt}})
    return figure


def description(figure: Figure, what: str) -> str:
    """What is drawn, and the names that stand at it: of panels, axes, rows, lines and parts of a drawing.

    what: the documentation of the function that drew it; its first sentence is taken.
    """
    drawings = [axes for axes in figure.axes if not (axes.get_title() or axes.get_title("left") or axes.get_xlabel())]
    plots = [axes for axes in figure.axes if not hasattr(axes, "_colorbar")]
    shades = [axes.get_ylabel() for axes in figure.axes if hasattr(axes, "_colorbar")]
    legends = [axes.get_legend() for axes in plots] + figure.legends
    parts = {
        "Panels": (axes.get_title(side) for axes in plots for side in SIDES),
        "Across": (axes.get_xlabel() for axes in plots),
        "Up": (axes.get_ylabel() for axes in plots),
        "Shade": shades,
        "Words": (text.get_text() for axes in drawings for text in axes.texts),
        "Rows": (name for axes in plots for name in _rows(axes)),
        "Legend": (text.get_text() for legend in legends if legend for text in legend.get_texts()),
    }
    said = {name: _listed(texts) for name, texts in parts.items()}
    first = " ".join(what.split()).partition(". ")[0].rstrip(".")
    return " ".join([f"{first}.", *(f"{name}: {texts}." for name, texts in said.items() if texts)])


def with_descriptions(notebook, resources):
    """The notebook with its pictures as `<img alt=…>`, for nbconvert, whose default template writes them without.

    jupyter_config.py names it to nbconvert and to JupyterLab's export; `pip install` lays that file into the
    environment's etc/jupyter. Pictures without a description, of whatever notebook, stay as they are. A page that is
    to be sanitised stays without descriptions, since it would lose the pictures.
    """
    for cell in [] if resources.get("should_sanitize_html") else notebook.cells:
        for output in cell.get("outputs", []):
            data, metadata = output.get("data", {}), output.get("metadata", {})
            for kind in ("image/png", "image/jpeg"):
                about, richer = metadata.get(kind, {}), {*data} - {kind, "text/plain"}
                in_a_file = "filenames" in metadata  # of its own
                if about.get("alt") and kind in data and not richer and not in_a_file:
                    given = {name: str(about[name]) for name in ("alt", "width", "height") if name in about}
                    said = " ".join(f'{name}="{escape(value)}"' for name, value in given.items())
                    data["text/html"] = f'<img {said} src="data:{kind};base64,{data[kind].strip()}">'
    return notebook, resources


def _rows(axes: Axes) -> list[str]:
    """The words at the ticks of the vertical axis; numbers say little without their places."""
    if not isinstance(axes.yaxis.get_major_formatter(), FixedFormatter | FuncFormatter):
        return []
    names = [label.get_text() for label in axes.get_yticklabels()]
    return [name for name in names if any(character.isalpha() for character in name)]


def _listed(texts: Iterable[str]) -> str:
    """Each text once, in order, on one line."""
    names = list(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))
    more = [f"and {len(names) - MOST} more"] if len(names) > MOST else []
    return "; ".join(names[:MOST] + more)
