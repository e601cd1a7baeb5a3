"""The book: its pages say which run they show, its links lead somewhere, and a browser opens it without the network."""

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from alexnet_lib.live.guide import SECTIONS
from alexnet_lib.paths import NOTEBOOKS, REPOSITORY
from alexnet_lib.training import train
from tests.small_notebooks import write_notebook
from tests.small_runs import settings

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
without_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; Debian's package is called chromium")
ARTEFACTS = Path(os.environ.get("ALEXNET_SCREENSHOTS", REPOSITORY / "build" / "screenshots"))


def script(name: str):
    """A module of docs/."""
    specification = importlib.util.spec_from_file_location(name, REPOSITORY / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


book = script("book")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The whole book of the committed notebooks."""
    folder = tmp_path_factory.mktemp("book")
    previous, os.environ["ALEXNET_RUNS"] = os.environ.get("ALEXNET_RUNS"), str(folder / "no runs")
    try:
        arguments = ["--output", str(folder / "html"), "--work", str(folder / "source"), "--epochs", "1"]
        assert book.main(arguments) == 0
    finally:
        os.environ.pop("ALEXNET_RUNS") if previous is None else os.environ.update(ALEXNET_RUNS=previous)
    return folder / "html"


def test_every_notebook_is_a_page_and_stands_in_the_contents(built):
    contents = book.Links((built / "index.html").read_text()).targets
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert (built / f"{path.stem}.html").is_file()
        assert f"{path.stem}.html" in contents


def test_checks_are_folded_on_a_page():
    check = nbformat.v4.new_code_cell("assert net_errs < 0.5", metadata={"tags": ["check"]})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A title"), check])
    assert "hide-cell" in book.page(notebook, "one").cells[1].metadata["tags"]


def test_every_page_says_which_run_it_shows(built):
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert "The run on this page:" in (built / f"{path.stem}.html").read_text()


def test_nothing_is_fetched(built):
    """Addresses to read on may lead away; nothing that a page needs to be shown does."""
    for path in built.glob("*.html"):
        for line in path.read_text().splitlines():
            if "<script" in line or "<img" in line or 'rel="stylesheet"' in line:
                assert "://" not in line.split(">")[0].replace("http://www.w3.org", ""), (path.name, line[:200])


def test_every_figure_says_in_words_what_it_shows(built):
    for path in NOTEBOOKS.glob("*.ipynb"):
        pictures = re.findall(r'<img [^>]*src="_images/[^>]*>', (built / f"{path.stem}.html").read_text())
        assert pictures
        for picture in pictures:
            said = re.search(r'alt="([^"]*)"', picture)[1]
            assert len(said) > 20 and not said.startswith("_images"), picture


def test_the_ledger_is_a_page_with_every_claim(built):
    page = (built / "ledger.html").read_text()
    table = book.claims()
    assert f"{len(table)} claims" in page and page.count("<tr") == len(table) + 1


def test_the_live_net_is_a_page_whose_controls_lead_into_the_book(built):
    """Where no run of notebook 07 is found, a short one is made; `broken_links` has followed the links."""
    assert "live.html" in book.Links((built / "index.html").read_text()).targets
    targets = book.Links((built / "live.html").read_text()).targets
    sections = [f"{section['notebook']}.html#{book.make_id(section['heading'])}" for section in SECTIONS.values()]
    assert {section for section in sections if targets.count(section) < 2} == set()  # of a control, and of the summary


def test_the_readers_own_tiny_imagenet_has_a_page_too_and_what_cannot_be_shown_is_left_out(place, monkeypatch, capsys):
    records = {}
    for name in ("older", "newer"):
        records[name] = train(settings(epochs=1, name=name)).folder
        config = json.loads((records[name] / "config.json").read_text()) | {"dataset": "tiny_imagenet"}
        (records[name] / "config.json").write_text(json.dumps(config))
        os.utime(records[name] / "summary.json", (len(records), len(records)))

    def write(record, path, link):
        if path.name == "live.html":
            raise ValueError("a net of too many weights")
        path.write_text(record.folder.name)

    monkeypatch.setattr(book, "live", write)
    assert book.live_pages(place / "extra", 1) == {"live-tiny-imagenet.html": "Tiny ImageNet"}
    assert (place / "extra" / "live-tiny-imagenet.html").read_text() == "newer"
    assert "live.html is left out: a net of too many weights" in capsys.readouterr().err
    assert 'href="live-tiny-imagenet.html"' in book.index([], {"live-tiny-imagenet.html": "Tiny ImageNet"})


def test_an_executed_copy_comes_before_the_committed_one(tmp_path):
    notebooks, executed, pages = (tmp_path / name for name in ("notebooks", "executed", "pages"))
    for folder in (notebooks, executed, pages):
        folder.mkdir()
    for name in ("01_first", "02_second"):
        write_notebook(notebooks / f"{name}.ipynb", "print(x)")
    ran = nbformat.read(notebooks / "01_first.ipynb", 4)
    about = {"parameters": {"dataset": "pictures"}, "start_time": "2031-05-04T10:00:00", "duration": 12.3}
    ran.metadata["papermill"] = about
    nbformat.write(ran, executed / "01_first.ipynb")
    own = {"device": "abacus", "cores": 10, "processor": "beads"}
    later = {"device": "rule", "cores": 1, "processor": "slide"}
    (executed / "machine.json").write_text(json.dumps(later | {"notebooks": {"01_first": own}}))
    assert book.gather(pages, "small", notebooks, executed) == ["01_first", "02_second"]
    first, second = (nbformat.read(pages / f"{name}.ipynb", 4).cells[0].source for name in ("01_first", "02_second"))
    assert "profile small, data set pictures, abacus (10 cores, beads), 2031-05-04, 12 seconds" in first
    assert "committed outputs" in second


NOTEBOOK = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A title")])
RAN = {"parameters": {}, "start_time": "2031-05-04T10:00:00", "duration": 1.0}
SPOILT = {
    "notebook torn": ("00_dataset.ipynb", '{"cells": ['),
    "notebook a list": ("00_dataset.ipynb", "[]"),
    "notebook without cells": ("00_dataset.ipynb", NOTEBOOK | {"cells": []}),
    "outputs a number": (
        "00_dataset.ipynb",
        NOTEBOOK | {"cells": [{"cell_type": "code", "source": "", "metadata": {}, "outputs": [5]}]},
    ),
    "tags a number": (
        "00_dataset.ipynb",
        NOTEBOOK | {"cells": [{"cell_type": "code", "source": "", "metadata": {"tags": 5}, "outputs": []}]},
    ),
    "run a number": ("00_dataset.ipynb", NOTEBOOK | {"metadata": {"papermill": 5}}),
    "run without an end": ("00_dataset.ipynb", NOTEBOOK | {"metadata": {"papermill": RAN | {"duration": None}}}),
    "run without a start": ("00_dataset.ipynb", NOTEBOOK | {"metadata": {"papermill": RAN | {"start_time": 5}}}),
    "machine torn": ("machine.json", "{"),
    "machine without cores": ("machine.json", {"device": "abacus", "processor": "beads"}),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_damaged_file_ends_the_command_with_a_line_that_names_it(tmp_path, monkeypatch, capsys, spoilt):
    monkeypatch.setenv("ALEXNET_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(book, "live_pages", lambda folder, epochs: {})
    name, content = SPOILT[spoilt]
    path = tmp_path / "runs" / "walkthrough" / "embedded" / name
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    _ends_with(tmp_path, path, capsys)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"dataset": 5, "net": "code2012"}', '{"dataset": "embedded"}'])
def test_a_runs_damaged_settings_end_the_command_too(tmp_path, monkeypatch, capsys, content):
    monkeypatch.setenv("ALEXNET_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "runs" / "train" / "mine" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    (path.parent / "summary.json").write_text("{}")
    _ends_with(tmp_path, path, capsys)


def _ends_with(tmp_path, path, capsys):
    with pytest.raises(SystemExit) as ended:
        book.main(["--output", str(tmp_path / "html"), "--work", str(tmp_path / "source")])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert said.startswith(f"python docs/book.py: {path}: ") and "; accepted: " in said


def test_a_folder_with_other_things_is_not_emptied(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SystemExit):
        book.main(["--output", str(tmp_path / "html"), "--work", str(tmp_path)])
    assert f"--work {tmp_path} would be emptied" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_profile_that_has_not_run_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        book.main(["--output", str(tmp_path / "html"), "--work", str(tmp_path / "pages"), "--profile", "imagnette"])
    assert "profile 'imagnette'" in capsys.readouterr().err and not (tmp_path / "pages").exists()


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">b</a> <a href="http://elsewhere/x">away</a>')
    (tmp_path / "b.html").write_text('<p id="there">here</p> <img src="no.png"> <a href="#gone">gone</a>')
    assert book.broken_links(tmp_path) == ["b.html: #gone", "b.html: no.png"]


# code and tables that are cut off: wider than their box, which does not scroll
CLIPPED = """() => {
  const scrolls = e => e && !e.matches('.bd-article') &&
    (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  return [...document.querySelectorAll('.bd-article pre, .bd-article table, .bd-article mjx-container')].filter(
    e => e.getBoundingClientRect().right > document.documentElement.clientWidth && !scrolls(e)
  ).map(e => e.textContent.slice(0, 60));
}"""
# formulas that were not set: a dollar in text that is no code and no output
RAW = """() => {
  const walk = document.createTreeWalker(document.querySelector('.bd-article'), NodeFilter.SHOW_TEXT), found = [];
  const other = 'code, pre, script, style, .cell_output';
  while (walk.nextNode())
    if (walk.currentNode.data.includes('$') && !walk.currentNode.parentElement.closest(other))
      found.push(walk.currentNode.data.slice(0, 60));
  return found;
}"""


@without_browser
@pytest.mark.parametrize(("device", "width"), [("phone", 390), ("laptop", 1280)])
def test_a_browser_shows_the_pages(built, device, width):
    """No error on the console, no request that leaves the folder, formulas set, nothing wider than the screen."""
    from playwright.sync_api import sync_playwright

    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    problems, away = [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 900}, device_scale_factor=1)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: away.append(request.url) if request.url.startswith("http") else None)
        for path in sorted(built.glob("[0-9]*.html")) + [built / "index.html", built / "ledger.html"]:
            page.goto(path.as_uri(), wait_until="load")
            page.screenshot(path=ARTEFACTS / f"book-{device}-{path.stem}.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path.stem
            hidden = "[...document.querySelectorAll('.cell_output img')].filter(i => !i.complete || !i.naturalWidth)"
            assert page.evaluate(f"{hidden}.length") == 0, path.stem
            assert page.evaluate(CLIPPED) == [], path.stem
            if path.stem == "03_lrn":  # a figure that is wide for a phone
                figure = "[...document.querySelectorAll('.cell_output img')].sort((a, b) => b.width - a.width)[0]"
                assert page.evaluate(f"{figure}.width") > 560
                assert page.evaluate(f"getComputedStyle({figure}.closest('.cell_output')).overflowX") == "auto"
            if page.evaluate("!!document.querySelector('.math')"):
                page.wait_for_selector("mjx-container", state="attached", timeout=30000)
            assert page.evaluate(RAW) == [], path.stem
        browser.close()
    assert problems == [] and away == []


@pytest.fixture(scope="module")
def page():
    """A page in a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page(viewport={"width": 1400, "height": 1000})
        browser.close()


@without_browser
def test_a_reader_finds_a_word_without_a_network(built, page):
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto((built / "index.html").as_uri())
    page.locator(".search-button-field:visible").click()
    page.keyboard.type("dropout")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li")
    page.wait_for_timeout(500)
    found = page.evaluate("[...document.querySelectorAll('#search-results li')].map(item => item.innerText)")
    assert any("06 · Dropout" in text for text in found) and len(found) < len(list(built.glob("*.html")))
    page.screenshot(path=ARTEFACTS / "book-search.png")
    assert problems == []


@without_browser
def test_the_ledger_is_searched_filtered_and_sorted(built, page):
    shown = "[...document.querySelectorAll('.ledger tbody tr')].filter(r => r.offsetParent).map(r => r.id)"
    page.goto((built / "ledger.html").as_uri())
    rows = book.claims().set_index("id")
    assert page.evaluate(shown) == list(rows.index)
    page.locator(".ledger select[name=verdict]").select_option("refuted")
    assert set(page.evaluate(shown)) == set(rows.index[rows["verdict"] == "refuted"])
    page.locator(".ledger input").fill("2,048")
    assert page.evaluate(shown) == ["views-of-an-image"]
    page.locator(".ledger input").fill("")
    page.locator(".ledger select[name=verdict]").select_option("")
    page.locator(".ledger th button", has_text="measured").click()
    measured = rows["measured"].loc[page.evaluate(shown)].dropna()
    assert len(measured) > 100 and measured.round(9).is_monotonic_increasing  # rounding differs from run to run
    page.locator(".ledger th button", has_text="measured").click()
    assert page.evaluate(shown)[0] == rows["measured"].idxmax()
    page.screenshot(path=ARTEFACTS / "book-ledger.png")


@without_browser
def test_on_a_dark_page_figures_keep_their_white_paper(built, page):
    page.goto((built / "03_lrn.html").as_uri())
    page.locator(".theme-switch-button:visible").click()
    page.locator(".theme-change-button[data-mode='dark']:visible").click()
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    brightness = "parseInt(getComputedStyle({}).backgroundColor.match(/\\d+/))"
    assert page.evaluate(brightness.format("document.body")) < 60
    figures = page.evaluate(f"[...document.querySelectorAll('.cell_output img')].map(i => {brightness.format('i')})")
    assert figures and set(figures) == {255}
    page.locator(".cell_output img").first.scroll_into_view_if_needed()
    page.screenshot(path=ARTEFACTS / "book-dark.png")


@without_browser
def test_solutions_are_folded_and_open(built, page):
    page.goto((built / "06_dropout.html").as_uri())
    solution = page.locator("details:has(summary:text('A solution'))").first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert "assert" in solution.locator("pre").inner_text()


@without_browser
def test_checks_are_folded_and_open(built, page):
    page.goto((built / "06_dropout.html").as_uri())
    check = page.locator("details:has(summary:has-text('Show what is checked'))").first
    assert not check.locator("pre").first.is_visible()
    check.locator("summary").click()
    assert "assert" in check.locator("pre").first.inner_text()
