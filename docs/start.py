"""Writes START_HERE.md from its template: numbers from the ledger, pictures from the committed notebooks.

python docs/start.py            after a change of start.md, of the ledger, or of a notebook whose picture it shows

In start.md, {{views-of-an-image.measured}} is a number of the ledger, {{relu-six-times.measured:.1f}} one with fewer
digits, {{verdicts}} the rows of a table of its verdicts, and ![what it shows](03_lrn.ipynb#headline) the picture that
the cell `headline` of the notebook holds.
"""

import argparse
import base64
import re
from pathlib import Path

import nbformat

from alexnet_lib.ledger.claims import MEANING, claims
from alexnet_lib.ledger.page import number
from alexnet_lib.paths import NOTEBOOKS

HERE = Path(__file__).parent
KINDS = {"image/jpeg": "jpg", "image/png": "png"}
NUMBER = re.compile(r"\{\{([\w-]+)\.(paper|log2012|measured)(?::([\w.]+))?\}\}")
PICTURE = re.compile(r"(!\[[^\]]+\])\((\w+)\.ipynb#([\w-]+)\)")


def page(template: str) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by file name.

    Raises:
        KeyError, ValueError: the ledger has no such claim, or the notebook no such cell, or the cell no picture.
    """
    rows, pictures = claims().set_index("id"), {}

    def picture(found: re.Match) -> str:
        alt, notebook, cell = found.groups()
        kind, data = picture_of(NOTEBOOKS / f"{notebook}.ipynb", cell)
        name = f"{notebook}-{cell}.{kind}"
        pictures[name] = data
        return f"{alt}(start/{name})"

    def number_of(found: re.Match) -> str:
        claim, column, digits = found.groups()
        value = rows.loc[claim, column]
        return format(value, digits) if digits else number(value)

    verdicts = "\n".join(f"| {verdict} | {meaning} |" for verdict, meaning in MEANING.items())
    text = NUMBER.sub(number_of, template.replace("{{verdicts}}", verdicts))
    return PICTURE.sub(picture, text), pictures


def picture_of(path: Path, cell_id: str) -> tuple[str, bytes]:
    """The first picture among a cell's outputs: its suffix and its bytes."""
    for cell in nbformat.read(path, 4).cells:
        for output in cell.get("outputs", []) if cell.id == cell_id else []:
            for kind in KINDS.keys() & output.get("data", {}).keys():
                return KINDS[kind], base64.b64decode(output.data[kind])
    raise ValueError(f"{path.name} has no cell {cell_id!r} with a picture")


def main(arguments=None) -> None:
    argparse.ArgumentParser(description=(__doc__ or " ").splitlines()[0]).parse_args(arguments)
    text, pictures = page((HERE / "start.md").read_text(encoding="utf-8"))
    (HERE / "START_HERE.md").write_text(text, encoding="utf-8")
    (HERE / "start").mkdir(exist_ok=True)
    for old in (HERE / "start").iterdir():
        old.unlink()
    for name, data in pictures.items():
        (HERE / "start" / name).write_bytes(data)


if __name__ == "__main__":
    main()
