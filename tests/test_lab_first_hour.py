"""The first five points of a newcomer's first hour, in JupyterLab as `make lab` opens it, on a laptop and on a phone.

Notebook 07 is cut down to the cells that the points are about, and trains on a handful of tiny pictures.
"""

import html
import json
import re
import shutil
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbconvert.exporters import get_exporter

from alexnet_lib.paths import NOTEBOOKS, REPOSITORY
from alexnet_lib.runs.jupyter import kernel_environment
from tests.baseline import normal, text_of
from tests.small_runs import prepare_place
from tests.test_book import ARTEFACTS, BROWSER, script
from tests.test_lab import KERNEL, LOOK_MS, STARTED_MS, browser, jupyter_folders, served  # noqa: F401

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; Debian's package is called chromium")
KEPT = ("parameters", "settings", "train-run", "errors", "effective-table", "reference")
QUICK = {"width": 0.05, "batch_size": 12, "device": '"cpu"'}
APP, NOTEBOOK = "window.jupyterapp", "window.jupyterapp.shell.currentWidget"
RUN = f"""([index, wait]) => {{
  {NOTEBOOK}.content.activeCellIndex = index;
  {NOTEBOOK}.content.deselectAll();
  const finished = {APP}.commands.execute('notebook:run-cell');
  return wait ? finished : null;
}}"""
WIDEST = "Math.max(...[...document.querySelectorAll('.jp-OutputArea .progress')].map(e => e.clientWidth))"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A checkout with notebook 04 and a short 07, and a handful of pictures to learn."""
    home = tmp_path_factory.mktemp("checkout")
    for name in ("alexnet_lib", "docs"):
        shutil.copytree(REPOSITORY / name, home / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    shutil.copy(REPOSITORY / "pyproject.toml", home)
    (home / "results").symlink_to(REPOSITORY / "results")
    (home / "notebooks").mkdir()
    shutil.copy(NOTEBOOKS / "04_pooling.ipynb", home / "notebooks")
    short = nbformat.read(NOTEBOOKS / "07_train.ipynb", 4)
    short.cells = [cell for cell in short.cells if cell.id in KEPT]
    assert len(short.cells) == len(KEPT)
    short.cells[0].source = asked(short.cells[0].source, epochs=2, **QUICK)
    nbformat.write(short, home / "notebooks" / "07_train.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        prepare_place(home, patch)
    return home


def asked(parameters: str, **values) -> str:
    """The text of the parameters cell with other values."""
    for name, value in values.items():
        parameters, count = re.subn(rf"(?m)^{name} = \S+", f"{name} = {value}", parameters)
        assert count == 1
    return parameters


@pytest.fixture(scope="module")
def address(home):
    own = {name: None for name in ("ALEXNET_PROGRESS", "ALEXNET_DATA", "ALEXNET_RUNS", "ALEXNET_STORES")}
    own |= {"JUPYTER_CONFIG_PATH": str(home / "alexnet_lib" / "figures")}  # in place of etc/jupyter of the environment
    environment = kernel_environment(OMP_NUM_THREADS="1", PYTHONPATH=str(home), **own, **jupyter_folders(home))
    with served([sys.executable, "docs/lab.py"], home, environment) as url:
        yield url


class Desk:
    """A page of JupyterLab on a copy in lab/."""

    def __init__(self, browser, address: str, home: Path, width: int):  # noqa: F811
        self.page = browser.new_page(viewport={"width": width, "height": 800})
        self.page.set_default_timeout(STARTED_MS)
        self.address, self.home, self.width, self.name = address, home, width, ""

    def open(self, name: str) -> None:
        """Load the page of a notebook, as one who reopens its tab does."""
        self.name = name
        self.page.goto(f"{self.address}/lab/tree/lab/{name}.ipynb?reset", wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        self.page.wait_for_function(f"() => ['idle', 'busy'].includes({KERNEL})", polling=LOOK_MS)
        self.make_room()

    def make_room(self) -> None:
        """On a narrow screen, fold the list of files away, by its symbol."""
        if self.width < 700:
            self.page.locator(".jp-SideBar.jp-mod-left .lm-TabBar-tab").first.click()

    def file(self) -> Path:
        return self.home / "lab" / f"{self.name}.ipynb"

    def save(self) -> None:
        self.do("docmanager:save")

    def do(self, command: str):
        return self.page.evaluate(f"command => {APP}.commands.execute(command)", command)

    def cells(self) -> list[dict]:
        return self.page.evaluate(f"() => {NOTEBOOK}.content.model.toJSON().cells")

    def index(self, cell: str) -> int:
        return next(i for i, found in enumerate(self.cells()) if found["id"] == cell)

    def source(self, cell: str) -> str:
        return "".join(self.cells()[self.index(cell)]["source"])

    def edit(self, cell: str, text: str) -> None:
        given = [self.index(cell), text]
        self.page.evaluate(f"([i, text]) => {NOTEBOOK}.content.model.cells.get(i).sharedModel.setSource(text)", given)

    def run(self, *cells: str, wait: bool = True) -> None:
        for cell in cells:
            self.page.evaluate(RUN, [self.index(cell), wait])

    def run_all(self) -> bool:
        return self.do("notebook:run-all-cells")

    def ask(self, **values) -> None:
        self.edit("parameters", asked(self.source("parameters"), **values))

    def text(self, cell: str) -> str:
        """All that a cell has put out as text."""
        said = []
        for output in self.cells()[self.index(cell)]["outputs"]:
            kinds = [output.get(name) for name in ("text", "traceback")] + [*output.get("data", {}).values()]
            said += ["".join(kind) for kind in kinds if isinstance(kind, str | list)]
        return "\n".join(said)

    def show(self, cell: str) -> None:
        self.page.evaluate(f"i => {NOTEBOOK}.content.scrollToItem(i, 'start')", self.index(cell))

    def see(self, cell: str, text: str) -> None:
        """Until the page holds a text that a cell puts out; a busy page may scroll away from it meanwhile."""
        for _ in range(STARTED_MS // LOOK_MS):
            self.show(cell)
            if self.page.locator(f".jp-OutputArea :text('{text}')").count():
                return
            self.page.wait_for_timeout(LOOK_MS)
        raise AssertionError(f"{text!r} is not shown: {self.text(cell)}")

    def picture(self, name: str) -> None:
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"lab-{name}-{self.width}.png")


@pytest.fixture(scope="module", params=[1280, 390])
def desk(address, browser, home, request):  # noqa: F811
    desk = Desk(browser, address, home, request.param)
    yield desk
    desk.page.close()


def test_0_make_lab_opens_the_page_to_start_from(desk):
    desk.page.goto(desk.address, wait_until="domcontentloaded")
    title = ".jp-RenderedMarkdown h1:has-text('Start here')"
    desk.page.wait_for_selector(title, state="attached")
    desk.make_room()
    desk.page.wait_for_selector(title)
    assert desk.page.locator(".jp-RenderedMarkdown img").first.bounding_box()["width"] > 200
    desk.picture("start")


def test_1_the_run_that_is_shown_is_the_one_that_is_asked_for(desk):
    """Run All, other epochs, again, and again, although later cells use the parameters' names for other things."""
    desk.open("07_train")
    for epochs in (2, 3, 4) if desk.width > 700 else (2,):
        desk.ask(epochs=epochs)
        assert desk.run_all()
        assert f"-{epochs}epochs-" in desk.text("effective-table")
        assert f"{epochs} epochs took" in desk.text("errors")
    desk.picture("point1")


def test_2_cells_of_ones_own_are_welcome_and_a_misspelt_parameter_is_not(desk):
    desk.open("07_train")
    before = {name: desk.source(name) for name in ("parameters", "settings")}
    note = "{cell_type: 'code', id: 'note', source: 'my_note = 3\\nloss = 4', metadata: {}, outputs: []}"
    desk.page.evaluate(f"() => {NOTEBOOK}.content.model.sharedModel.insertCell(0, {note})")
    desk.edit("settings", before["settings"] + "\nof_my_own = 5")
    assert desk.run_all()
    desk.edit("parameters", before["parameters"] + "\nwidht = 0.25")
    desk.run("parameters", "settings")
    assert "unknown parameter 'widht'; did you mean 'width'?" in desk.text("settings")
    desk.show("settings")
    desk.picture("point2")
    for name, source in before.items():
        desk.edit(name, source)
    desk.page.evaluate(f"() => {NOTEBOOK}.content.model.sharedModel.deleteCell(0)")
    desk.run("parameters", "settings")
    assert "unknown" not in desk.text("settings")


def test_3_saving_keeps_the_figures_and_changes_nothing_else(desk):
    committed = (NOTEBOOKS / "04_pooling.ipynb").read_text(encoding="utf-8")
    shutil.copy(desk.home / "notebooks" / "04_pooling.ipynb", desk.home / "lab")
    desk.open("04_pooling")
    desk.page.wait_for_function(f"() => {KERNEL} === 'idle'", polling=LOOK_MS)
    desk.save()
    assert text_of(nbformat.read(desk.file(), 4)) == committed
    lab = script("lab")
    assert lab.digest(desk.file()) == lab.digest(desk.home / "notebooks" / "04_pooling.ipynb")
    _, about = get_exporter("script")().from_filename(desk.file())
    assert about["output_extension"] == ".py"

    desk.run("parameters", "settings", "headline", "mine", "backwards", "credit-figure")
    desk.save()
    desk.page.evaluate(f"() => {NOTEBOOK}.sessionContext.shutdown()")
    saved, before = nbformat.read(desk.file(), 4), nbformat.reads(committed, 4)
    assert without_outputs(saved) == without_outputs(before)
    exported = f"{desk.address}/nbconvert/html/lab/04_pooling.ipynb"  # File, Save and Export Notebook As, HTML
    page = desk.page.request.get(exported, headers={"Referer": desk.address}).text()
    alts = [html.unescape(alt) for alt in re.findall(r'<img[^>]* alt="([^"]*)"', page)]
    drawn = [o for c in saved.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(alts) >= len(drawn) > 2 and min(map(len, alts)) > 20 and "VBox(" not in page

    desk.open("04_pooling")  # by a kernel that knows of no slider
    desk.show("credit-figure")
    cell = desk.page.locator(f".jp-Cell[data-windowed-list-index='{desk.index('credit-figure')}']")
    cell.locator(".jp-RenderedImage img").first.wait_for()
    assert "(run this cell to choose: window)" in cell.inner_text() and "model not found" not in cell.inner_text()
    assert cell.locator(".jp-RenderedImage img").first.bounding_box()["width"] > 100
    desk.picture("point3")
    desk.page.evaluate(f"() => {NOTEBOOK}.sessionContext.shutdown()")


def test_4_a_finished_run_is_named_with_how_to_train_anew_and_its_warnings(desk):
    desk.open("07_train")
    desk.ask(epochs=2)
    desk.run("parameters", "settings", "train-run")
    (folder,) = (desk.home / "runs" / "train").glob("*-2epochs-*")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"warnings": ["the net has not begun to learn"]}))
    desk.run("train-run")
    said = desk.text("train-run")
    assert f"This run is finished, so it was read and not trained: {folder}. To train anew, ask for another" in said
    assert "It ended with a warning: the net has not begun to learn." in said
    desk.show("train-run")
    desk.picture("point4")


def test_5_stop_says_what_is_kept_and_a_reopened_tab_finds_its_run(desk):
    desk.open("07_train")
    epochs = 900 + desk.width  # as many as no machine trains before it is stopped
    desk.ask(epochs=epochs)
    desk.run("parameters", "settings")
    desk.run("train-run", wait=False)
    folder = wait_for(desk, epochs, 2)
    desk.show("train-run")
    desk.page.wait_for_function(f"() => {WIDEST} > 100", polling=LOOK_MS)
    desk.picture("point5-bar")
    desk.page.locator("[data-jp-item-name='interrupt'] jp-button:visible").click()
    error = stopped(desk)
    kept, how = error["traceback"]
    assert kept.startswith("Stopped: the last whole checkpoint is of") and str(folder) in kept
    assert how == "Run it again, with the same settings, to go on."
    desk.see("train-run", how)
    desk.picture("point5-stop")

    desk.run("train-run", wait=False)
    desk.see("train-run", "This run goes on from")
    desk.do("notebook:interrupt-kernel")
    stopped(desk)

    epochs = 16 if desk.width > 700 else 17  # enough not to be over before it is saved
    desk.ask(epochs=epochs)
    desk.run("parameters", "settings")
    desk.run("train-run", wait=False)
    folder = wait_for(desk, epochs, 1)
    desk.save()
    desk.open("07_train")  # the tab is closed, and opened again while the kernel trains
    assert "(training: run this cell again to see how far it is)" in desk.text("train-run")
    desk.run("train-run", "errors")
    assert f"{epochs} epochs took" in desk.text("errors")
    assert f"This run is finished, so it was read and not trained: {folder}" in desk.text("train-run")


def stopped(desk: Desk) -> dict:
    """The error that a stopped run leaves in its notebook, once it is there."""
    found = f"i => {NOTEBOOK}.content.model.toJSON().cells[i].outputs.filter(o => o.output_type === 'error')"
    index = desk.index("train-run")
    desk.page.wait_for_function(f"i => ({found})(i).length === 1", arg=index, polling=LOOK_MS)
    (error,) = desk.page.evaluate(found, index)
    return error


def without_outputs(notebook: nbformat.NotebookNode) -> list:
    """What is committed of the cells beside what they put out."""
    return [(cell.id, cell.source, cell.metadata) for cell in normal(notebook).cells]


def wait_for(desk: Desk, epochs: int, done: int) -> Path:
    """The folder of the run of so many epochs, once it has done some of them."""
    for _ in range(600):
        for history in (desk.home / "runs" / "train").glob(f"*-{epochs}epochs-*/history.csv"):
            if len(history.read_text().splitlines()) > 2 * done:
                return history.parent
        time.sleep(0.1)
    raise AssertionError("no run trains")
