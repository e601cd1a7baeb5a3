"""Notebooks of a few cells, for the tests of the tools."""

from pathlib import Path

import nbformat


def write_notebook(path: Path, *cells: str | tuple[str, str], parameters: str = "x = 1") -> Path:
    """A notebook of a parameters cell and code cells, each given by its source or by its source and a tag."""
    notebook = nbformat.v4.new_notebook()
    for number, cell in enumerate([(parameters, "parameters"), *cells]):
        source, *tags = (cell,) if isinstance(cell, str) else cell
        made = nbformat.v4.new_code_cell(source, id=f"cell-{number}", metadata={"tags": tags} if tags else {})
        notebook.cells.append(made)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path
