"""Builds the HTML book from executed notebooks; nothing is fetched.

python docs/book.py --profile embedded

A page shows the copy that the walkthrough of the profile has executed, or, where there is none, the committed one; it
says which. In live.html the net of notebook 07 looks at pictures; where there is no such run, a short one is made.
The book lies in docs/_build/html. A link or a picture that leads nowhere is an error.
"""

import argparse
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import nbformat
from docutils.nodes import make_id
from pydantic import Field
from sphinx.cmd.build import main as sphinx

from alexnet_lib.commands import ends_well
from alexnet_lib.experiments.trained import run_to_look_at
from alexnet_lib.files import Stored, read_json
from alexnet_lib.ledger.claims import MEANING, claims
from alexnet_lib.ledger.page import part
from alexnet_lib.live import live
from alexnet_lib.paths import NOTEBOOKS, runs_dir
from alexnet_lib.runs.records import Record
from alexnet_lib.runs.stored import Cell, Chosen, Notebook

HERE = Path(__file__).parent
BUILD = HERE / "_build"
PARTS = {
    "§2 The dataset": ("00",),
    "§3 The architecture": ("01", "02", "03", "04"),
    "§4 Reducing overfitting": ("05", "06"),
    "§5 Learning": ("07",),
    "§6 and §7 Results": ("08", "09"),
    "The next paper": ("10",),
}


class Machine(Stored):
    """What a notebook was computed on."""

    device: str
    cores: int
    processor: str


class Machines(Machine):
    """machine.json, which the walkthrough writes: of the last notebook, and of each."""

    notebooks: dict[str, Machine] = {}


class Ran(Stored):
    """What Papermill says of a run; as long as it lasts there is no duration."""

    parameters: dict
    start_time: str
    duration: float


class Metadata(Stored):
    papermill: Ran | None = None


class Tags(Stored):
    tags: list[str] = []


class Output(Stored):
    data: dict = {}
    metadata: dict = {}


class PageCell(Cell):
    metadata: Tags
    outputs: list[Output] = []


class Page(Notebook):
    """A notebook, as far as its page depends on it."""

    metadata: Metadata
    cells: Annotated[list[PageCell], Field(min_length=1)]


def read_page(path: Path) -> nbformat.NotebookNode:
    """
    Raises:
        Damaged: the file holds no notebook that a page could be made of.
    """
    read_json(path, Page)
    return nbformat.read(path, 4)


def run_shown(notebook: nbformat.NotebookNode, profile: str, machine: dict) -> str:
    """One line on the run that a page shows: profile, data set, device and date, as far as they are recorded."""
    ran = notebook.metadata.get("papermill")
    if ran is None:
        return (
            "committed outputs, the built-in pictures, one thread of a processor; `make test` repeats and compares them"
        )
    data = ran["parameters"].get("dataset", "the notebook's own choice of data")
    date, seconds = ran["start_time"][:10], round(ran["duration"])
    where = (
        f"{machine['device']} ({machine['cores']} cores, {machine['processor']})" if machine else "device not recorded"
    )
    return f"profile {profile}, data set {data}, {where}, {date}, {seconds} seconds"


def page(notebook: nbformat.NotebookNode, line: str) -> nbformat.NotebookNode:
    """The notebook with the line under its title, without widgets, which are dead on a page, and its checks folded."""
    opening = notebook.cells[0]
    title, _, rest = opening.source.partition("\n")
    opening.source = f"{title}\n\n> **The run on this page:** {line}.\n{rest}"
    for cell in notebook.cells:
        if "check" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = [*cell.metadata["tags"], "hide-cell"]
            cell.metadata["mystnb"] = {"code_prompt_show": "Show what is checked", "code_prompt_hide": "Hide it"}
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            for about in output.get("metadata", {}).values():
                if isinstance(about, dict) and "alt" in about:  # MyST looks for it at the cell
                    cell.metadata["mystnb"] = {"image": {"alt": about["alt"]}}
    return notebook


def gather(
    folder: Path,
    profile: str,
    notebooks: Path = NOTEBOOKS,
    executed: Path | None = None,
    nets: dict[str, str] | None = None,
) -> list[str]:
    """Write the pages of the book into a folder; gives the names of the notebooks. nets: as `live_pages` gives them.

    Raises:
        Damaged: a notebook, or the machine.json beside the executed ones.
    """
    executed = executed or runs_dir() / "walkthrough" / profile
    machine_file = executed / "machine.json"
    machine = read_json(machine_file, Machines) if machine_file.is_file() else {}
    names = sorted(path.stem for path in notebooks.glob("*.ipynb"))
    for name in names:
        path = executed / f"{name}.ipynb"
        notebook = read_page(path if path.is_file() else notebooks / path.name)
        nbformat.write(
            page(notebook, run_shown(notebook, profile, machine | machine.get("notebooks", {}).get(name, {}))),
            folder / path.name,
        )
    (folder / "index.md").write_text(index(names, nets or {}), encoding="utf-8")
    (folder / "ledger.md").write_text(ledger(), encoding="utf-8")
    shutil.copy(HERE / "imagenet.md", folder)
    shutil.copy(HERE / "conf.py", folder)
    shutil.copytree(HERE / "static", folder / "static", dirs_exist_ok=True)
    shutil.copytree(HERE / "start", folder / "start", dirs_exist_ok=True)
    return names


def live_pages(folder: Path, epochs: int) -> dict[str, str]:
    """Write the pages in which a net looks at pictures into a new folder: {file: the pictures that it is trained on}.

    Of the built-in pictures the run of notebook 07, or one of so many epochs, which is made; of Tiny ImageNet the
    reader's, if there is one.

    Raises:
        Damaged, FileNotFoundError: the config.json of a finished run.
    """
    runs = {"live.html": ("the built-in pictures", lambda: run_to_look_at("embedded", epochs=epochs))}
    finished = sorted((runs_dir() / "train").glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
    datasets = {path.parent: read_json(path.with_name("config.json"), Chosen)["dataset"] for path in finished}
    tiny = [folder for folder, dataset in datasets.items() if dataset == "tiny_imagenet"]
    if tiny:
        runs["live-tiny-imagenet.html"] = ("Tiny ImageNet", lambda: Record.open(tiny[-1]))
    pages = {}
    folder.mkdir(parents=True)
    for name, (pictures, run) in runs.items():
        try:
            live(run(), folder / name, lambda notebook, heading: f"{notebook}.html#{make_id(heading)}")
        except (ValueError, OSError, RuntimeError) as error:  # no such data, a damaged run, one that is at work
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            pages[name] = pictures
    return pages


def index(names: list[str], nets: dict[str, str]) -> str:
    """The first page: START_HERE, the live nets, and the notebooks by the paper's sections."""
    opening = (HERE / "START_HERE.md").read_text(encoding="utf-8").replace("](../notebooks/", "](")
    parts = [opening]
    if nets:
        links = [f'<a href="{name}">AlexNet, live</a>, trained on {what}' for name, what in nets.items()]
        parts.append(
            f"## Touch it\n\nA trained net in a page, with everything that the paper adds: {'; '.join(links)}."
        )
    for title, numbers in PARTS.items():
        if pages := [name for name in names if name[:2] in numbers]:
            parts.append("\n".join(["```{toctree}", f":caption: {title}", ":maxdepth: 1", "", *pages, "```"]))
    parts.append("```{toctree}\n:caption: The ledger, and training for real\n:maxdepth: 1\n\nledger\nimagenet\n```")
    return "\n\n".join(parts) + "\n"


def ledger() -> str:
    """The page of all claims with their verdicts."""
    table = claims()
    counts = table["verdict"].value_counts()
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in MEANING if verdict in counts)
    html = part(table, MEANING, lambda name: f"{name}.html")
    return f"# The ledger of claims\n\n{len(table)} claims: {said}.\n\n```{{raw}} html\n{html}\n```\n"


class Links(HTMLParser):
    """The addresses that a page leads to, and the anchors that it has."""

    def __init__(self, text: str):
        super().__init__()
        self.targets, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self.targets += [given[name] for name in ("href", "src") if given.get(name)]


def broken_links(folder: Path) -> list[str]:
    """What pages of a folder lead to, within it, and is not there."""
    pages = {path.resolve(): Links(path.read_text(encoding="utf-8")) for path in folder.glob("*.html")}
    broken = []
    for path, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[file].anchors if file in pages else {parts.fragment}
            if not file.exists() or parts.fragment and unquote(parts.fragment) not in anchors:
                broken.append(f"{path.relative_to(folder)}: {target}")
    return sorted(set(broken))


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser("python docs/book.py", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--profile", default="embedded", help="whose executed notebooks are shown (embedded)")
    parser.add_argument(
        "--epochs",
        type=int,
        default=10,
        help="of the run that live.html is made of, where notebook 07 has left none (10)",
    )
    parser.add_argument("--output", type=Path, default=BUILD / "html", help="folder of the book (docs/_build/html)")
    parser.add_argument(
        "--work",
        type=Path,
        default=BUILD / "source",
        help="folder of the pages as they are gathered (docs/_build/source)",
    )
    chosen = parser.parse_args(arguments)
    with ends_well(parser, "notebooks and runs are as they were"):
        return build(chosen)


def build(chosen: argparse.Namespace) -> int:
    """Make the book that the command's options ask for; gives the command's exit status.

    Raises:
        ValueError: the folder of the pages holds other things, or no walkthrough of the profile has run.
    """
    own = chosen.work / ".book"  # whose pages may be thrown away
    old = chosen.work == BUILD / "source" or own.is_file()
    if chosen.work.exists() and not old and any(chosen.work.iterdir()):
        raise ValueError(f"--work {chosen.work} would be emptied, and not all in it is the book's; give a new folder")
    if chosen.profile != "embedded" and not (executed := runs_dir() / "walkthrough" / chosen.profile).is_dir():
        raise ValueError(f"no walkthrough of a profile {chosen.profile!r} has run: there is no {executed}")
    shutil.rmtree(chosen.work, ignore_errors=True)
    chosen.work.mkdir(parents=True)
    own.touch()
    gather(chosen.work, chosen.profile, nets=live_pages(chosen.work / "extra", chosen.epochs))
    if code := sphinx(["-b", "html", "-W", "--keep-going", "-q", str(chosen.work), str(chosen.output)]):
        return code
    if broken := broken_links(chosen.output):
        print("leads nowhere:\n  " + "\n  ".join(broken), file=sys.stderr)
        return 1
    print(f"the book: {chosen.output / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
