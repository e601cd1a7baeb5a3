"""JupyterLab in a real browser: notebooks open, run to their end without an error, and their sliders move a figure.

`make test` runs this after the comparison of the outputs and hands over what that has trained (ALEXNET_CHECKED), which
the notebooks pick up. Without it they train anew, which takes minutes.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from alexnet_lib.paths import NOTEBOOKS
from alexnet_lib.runs.jupyter import kernel_environment
from tests.test_book import ARTEFACTS, BROWSER, script

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; Debian's package is called chromium")
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
# the first notebook with each kind of control; ALEXNET_WHOLE_LAB=1 runs all of them here, which nbval runs anyway.
# The third kind, live_curves, is run again and again in test_lab_first_hour.py
CONTROLS = ("slider", "browse")
CODE = {name: (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8") for name in NAMES}
WITH_CONTROLS = [next(n for n in NAMES if re.search(rf"\b{control}\(", CODE[n])) for control in CONTROLS]
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
STARTED_MS, LONGEST_MS = 120_000, 900_000
LOOK_MS = 200  # between two looks; a look at every frame takes the time from the page
KERNEL = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
CELLS = """() =>
  [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code').map(c => {
    const outputs = [...Array(c.outputs.length).keys()].map(i => c.outputs.get(i).toJSON());
    const errors = outputs.filter(o => o.output_type === 'error').map(o => `${o.ename}: ${o.evalue}`);
    return {ran: c.executionCount !== null, errors};
})"""
SAVED = "i => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells[i].outputs"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """JupyterLab on copies of the notebooks, with settings, data and runs of its own."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(NOTEBOOKS, home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for checked in Path(os.environ.get("ALEXNET_CHECKED", home / "nothing")).glob("*/"):
        shutil.copytree(checked, home / "checked", dirs_exist_ok=True)
    own = {"ALEXNET_RUNS": str(home / "checked" / "runs"), "ALEXNET_DATA": str(home / "checked" / "data")}
    own |= jupyter_folders(home)
    lab = script("lab")
    lab.start_page(home / "notebooks")
    root = f"--ServerApp.root_dir={home / 'notebooks'}"
    command = [sys.executable, "-m", "jupyterlab", root, next(w for w in lab.command([]) if "app_settings_dir" in w)]
    environment = kernel_environment(OMP_NUM_THREADS="1", ALEXNET_PROGRESS=None, **own)
    with served(command, home, environment) as url:
        yield url


def jupyter_folders(home: Path) -> dict[str, str]:
    """Variables that keep a reader's JupyterLab and this one apart."""
    return {f"JUPYTER{part}_DIR": str(home / part) for part in ("LAB_SETTINGS", "LAB_WORKSPACES", "_CONFIG")}


@contextmanager
def served(command: list[str], home: Path, environment: dict):
    """The address of a JupyterLab that this command starts in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--expose-app-in-browser"]
    options += ["--no-browser", "--allow-root", "--ip=127.0.0.1"]
    with open(home / "lab.log", "w") as log:
        server = subprocess.Popen([*command, *options], cwd=home, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/api/status", server, home / "lab.log")
        yield url
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.25)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu", *QUIET])
        yield browser
        browser.close()


@pytest.mark.parametrize("name", NAMES if "ALEXNET_WHOLE_LAB" in os.environ else WITH_CONTROLS)
def test_a_notebook_runs_in_jupyterlab(address, browser, name):
    said, away = [], []
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: away.append(request.url) if outside(request.url, address) else None)
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=STARTED_MS)
    page.wait_for_function(f"() => {KERNEL} === 'idle'", timeout=STARTED_MS, polling=LOOK_MS)
    page.set_default_timeout(LONGEST_MS)
    finished = page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    cells = page.evaluate(CELLS)
    assert [error for cell in cells for error in cell["errors"]] == []
    assert finished and all(cell["ran"] for cell in cells)
    sources = [
        cell.source if cell.cell_type == "code" else "" for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
    ]
    for index in [i for i, source in enumerate(sources) if "\nslider(" in source]:
        move_a_slider(page, index)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"lab-{name}.png")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()
    assert said == [] and away == []


def test_the_start_page_is_set_and_leads_to_the_notebooks(address, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{address}/lab/tree/START_HERE.md?reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-RenderedMarkdown h1:has-text('Start here')", timeout=STARTED_MS)
    pictures = "[...document.querySelectorAll('.jp-RenderedMarkdown img')]"
    seen = f"() => {pictures}.length > 2 && {pictures}.every(image => image.naturalWidth > 0)"
    page.wait_for_function(seen, polling=LOOK_MS)
    page.screenshot(path=ARTEFACTS / "lab-start.png")
    page.locator(".jp-RenderedMarkdown a", has_text="07").first.click()
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=STARTED_MS)
    assert page.url.endswith("07_train.ipynb")
    page.wait_for_function(f"() => {KERNEL} === 'idle'", timeout=STARTED_MS, polling=LOOK_MS)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()


def test_contents_and_tags_are_shown(address, browser):
    """The headings in the table of contents, "parameters" at its cell, and solutions that open."""
    page = browser.new_page(viewport={"width": 1700, "height": 1000})
    page.goto(f"{address}/lab/tree/06_dropout.ipynb?reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=STARTED_MS)
    for panel in ("toc", "property-inspector"):
        page.evaluate(f"() => window.jupyterapp.commands.execute('{panel}:show-panel')")
    cells = nbformat.read(NOTEBOOKS / "06_dropout.ipynb", 4).cells
    texts = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    page.wait_for_selector(".jp-tocItem-content:has-text('Exercises')", timeout=STARTED_MS)
    shown = page.locator(".jp-TableOfContents .jp-tocItem-content").all_inner_texts()
    assert len(shown) == sum(bool(re.match("#+ ", line)) for line in texts)
    tagged = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    page.evaluate("i => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i; }", tagged)
    page.get_by_text("Common Tools").click()
    page.wait_for_selector(".jp-CellTags-Applied:has-text('parameters')", timeout=STARTED_MS)
    page.evaluate("i => window.jupyterapp.shell.currentWidget.content.scrollToItem(i, 'start')", len(cells) - 1)
    solution = page.locator("details:has(summary:text('A solution'))").first
    solution.locator("summary").click()
    assert "assert" in solution.locator("pre").inner_text()
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / "lab-contents.png")
    page.close()


def outside(url: str, address: str) -> bool:
    return url.startswith("http") and not url.startswith(address)


def move_a_slider(page, index: int) -> None:
    """One step to the right, in this cell, draws another picture."""
    # JupyterLab keeps only cells near the visible ones in the page
    page.evaluate("i => window.jupyterapp.shell.currentWidget.content.scrollToItem(i, 'center')", index)
    page.set_default_timeout(STARTED_MS)
    cell = page.locator(f".jp-Cell[data-windowed-list-index='{index}']")
    picture, handle = cell.locator(".jp-RenderedImage img"), cell.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    before = picture.get_attribute("src")
    handle.focus()
    handle.press("ArrowRight")
    moved = f"before => document.querySelector(\"[data-windowed-list-index='{index}'] img\")?.src !== before"
    page.wait_for_function(moved, arg=before, polling=LOOK_MS)
    saved = page.evaluate(SAVED, index)
    assert any(kind.startswith("image/") for output in saved for kind in output.get("data", {}))
