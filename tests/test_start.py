"""The page to start from, the copies that `make lab` opens, and the files around the project."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from alexnet_lib.paths import NOTEBOOKS, REPOSITORY
from tests.test_book import script

DOCS = REPOSITORY / "docs"
lab, start = script("lab"), script("start")
CPU_INSTALL = re.compile(r"uv pip install .*--torch-backend=cpu -e [\"']\.\[test,docs\][\"']")


def test_the_page_is_what_its_sources_give():
    """After a change of start.md, a verdict's number or a notebook's picture: python docs/start.py"""
    text, pictures = start.page((DOCS / "start.md").read_text(encoding="utf-8"))
    assert (DOCS / "START_HERE.md").read_text(encoding="utf-8") == text
    assert {path.name: path.read_bytes() for path in (DOCS / "start").iterdir()} == pictures and len(pictures) >= 3


def test_every_link_of_the_page_leads_somewhere():
    text = (DOCS / "START_HERE.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) > 15 and [link for link in links if not (DOCS / link).exists()] == []
    assert {path.stem[:2] for path in NOTEBOOKS.glob("*.ipynb")} >= set(re.findall(r"\[(\d\d)\]", text))


@pytest.mark.parametrize("wrong", ["{{no-such-claim.paper}}", "![x](03_lrn.ipynb#no-such-cell)"])
def test_a_number_or_picture_that_is_not_there_is_an_error(wrong):
    with pytest.raises((KeyError, ValueError), match="no-such"):
        start.page(wrong)


def write(folder, **notebooks):
    folder.mkdir(exist_ok=True)
    for name, text in notebooks.items():
        (folder / f"{name}.ipynb").write_text(text)


def read(folder):
    return {path.stem: path.read_text() for path in folder.glob("*.ipynb")}


def test_copies_follow_their_originals_until_a_reader_changes_them(tmp_path):
    originals, copies = tmp_path / "notebooks", tmp_path / "lab"
    write(originals, a="1", b="1", c="1")
    assert lab.refresh(originals, copies) == [] and read(copies) == {"a": "1", "b": "1", "c": "1"}
    write(copies, b="mine", c="mine")
    write(originals, a="2", b="2")
    assert lab.refresh(originals, copies) == ["b.ipynb"]
    assert read(copies) == {"a": "2", "b": "mine", "c": "mine"} and read(originals) == {"a": "2", "b": "2", "c": "1"}
    (copies / "b.ipynb").unlink()
    assert lab.refresh(originals, copies) == [] and read(copies)["b"] == "2"


def test_a_start_page_that_was_written_before_it_was_recorded_is_no_reader_s(tmp_path):
    write(tmp_path / "notebooks", a="1")
    lab.refresh(tmp_path / "notebooks", tmp_path / "lab")
    page = tmp_path / "lab" / "START_HERE.md"
    page.write_text("of an earlier version")
    assert lab.start_page(tmp_path / "lab") == [] and "earlier" not in page.read_text(encoding="utf-8")
    page.write_text("my notes")
    assert lab.start_page(tmp_path / "lab") == [] and page.read_text() == "my notes"


def test_a_copy_that_was_only_opened_is_not_the_readers_version(tmp_path):
    """JupyterLab writes the kernel's language into it; what somebody wrote or ran there is kept."""
    originals, copies = tmp_path / "notebooks", tmp_path / "lab"
    cell = {"cell_type": "code", "source": "1", "outputs": [], "execution_count": None, "metadata": {}}
    for metadata, changes, kept in (({"x": 1}, {}, []), ({"x": 2}, {"source": "2"}, ["a.ipynb"])):
        write(originals, a=json.dumps({"cells": [cell], "metadata": {}}))
        (copies / "a.ipynb").unlink(missing_ok=True)
        lab.refresh(originals, copies)
        write(copies, a=json.dumps({"cells": [cell | changes], "metadata": metadata}))
        write(originals, a=json.dumps({"cells": [cell | {"source": "3"}], "metadata": {}}))
        assert lab.refresh(originals, copies) == kept
        assert ('"3"' in read(copies)["a"]) == (not kept)


def test_a_folder_of_somebody_else_s_copies_is_left_alone(tmp_path):
    write(tmp_path / "notebooks", a="1")
    write(tmp_path / "lab", a="mine")
    assert (
        lab.refresh(tmp_path / "notebooks", tmp_path / "lab") == ["a.ipynb"] and read(tmp_path / "lab")["a"] == "mine"
    )


def test_the_start_page_lies_beside_the_copies(tmp_path):
    lab.start_page(tmp_path)
    text = (tmp_path / "START_HERE.md").read_text(encoding="utf-8")
    assert "](07_train.ipynb)" in text and "../notebooks" not in text
    assert all((tmp_path / picture).is_file() for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text))


def test_a_start_page_that_was_changed_is_not_overwritten(tmp_path, monkeypatch):
    page, docs = tmp_path / "lab" / "START_HERE.md", tmp_path / "docs"
    assert lab.start_page(page.parent) == lab.start_page(page.parent) == []
    first = page.read_text(encoding="utf-8")
    shutil.copytree(DOCS / "start", docs / "start")
    (docs / "START_HERE.md").write_text("newer", encoding="utf-8")
    page.write_text("mine", encoding="utf-8")
    assert lab.start_page(page.parent) == [] and page.read_text(encoding="utf-8") == "mine"
    monkeypatch.setattr(lab, "HERE", docs)
    assert lab.start_page(page.parent) == ["START_HERE.md"] and page.read_text(encoding="utf-8") == "mine"
    page.write_text(first, encoding="utf-8")
    assert lab.start_page(page.parent) == [] and page.read_text(encoding="utf-8") == "newer"


def test_a_copy_that_is_its_original_is_nobodys_version_though_the_list_of_copies_is_lost(tmp_path):
    write(tmp_path / "notebooks", a="1", b="1")
    lab.refresh(tmp_path / "notebooks", tmp_path / "lab")
    write(tmp_path / "lab", b="mine")
    (tmp_path / "lab" / ".copied.json").unlink()
    assert lab.refresh(tmp_path / "notebooks", tmp_path / "lab") == ["b.ipynb"]
    write(tmp_path / "notebooks", a="2")
    assert lab.refresh(tmp_path / "notebooks", tmp_path / "lab") == ["b.ipynb"] and read(tmp_path / "lab")["a"] == "2"


def test_help_copies_nothing(monkeypatch, tmp_path):
    class HandedOver(Exception):
        """What stands for the process that JupyterLab would take over."""

    def hand_over(*command):
        raise HandedOver

    monkeypatch.setattr(lab, "COPIES", tmp_path / "lab")
    monkeypatch.setattr(lab, "command", list)  # the real one asks for copies inside of the repository
    monkeypatch.setattr(lab.os, "execv", hand_over)
    with pytest.raises(HandedOver):
        lab.main(["--help"])
    assert not (tmp_path / "lab").exists()
    with pytest.raises(HandedOver):
        lab.main([])
    assert (tmp_path / "lab" / "START_HERE.md").is_file()


def test_jupyterlab_starts_with_the_folders_that_are_meant_here(monkeypatch, tmp_path):
    """Its kernels run in the folders of their notebooks."""
    started = []
    monkeypatch.setattr(lab, "COPIES", tmp_path / "lab")
    monkeypatch.setattr(lab, "command", list)
    monkeypatch.setattr(lab.os, "execv", lambda *command: started.append(dict(os.environ)))
    monkeypatch.chdir(tmp_path)
    for name in ("RUNS", "DATA", "STORES"):
        monkeypatch.setenv(f"ALEXNET_{name}", f"my/{name}")
    lab.main([])
    for name in ("RUNS", "DATA", "STORES"):
        assert started[0][f"ALEXNET_{name}"] == str(tmp_path / "my" / name)


def test_jupyterlab_is_reached_from_this_machine_alone():
    """Loopback and a token are JupyterLab's defaults; nothing in the command takes them away."""
    command = lab.command(["--port", "9999"])
    assert command[-2:] == ["--port", "9999"]
    assert not any(word in " ".join(command) for word in ("--ip", "token", "password", "allow_origin", "allow_remote"))


def commands() -> dict[str, str]:
    """The shell text of each file that sets the project up somewhere else."""
    container = json.loads((REPOSITORY / ".devcontainer" / "devcontainer.json").read_text())
    return {
        "devcontainer": container["postCreateCommand"],
        "Dockerfile": (REPOSITORY / "Dockerfile").read_text(),
        "binder": (REPOSITORY / "binder" / "postBuild").read_text(),
    }


@pytest.mark.parametrize("name", ["devcontainer", "Dockerfile", "binder"])
def test_other_places_install_as_the_readme_does(name):
    page = (DOCS / "install.md").read_text(encoding="utf-8")
    assert CPU_INSTALL.search(page.replace("\n", " ")) and "--torch-backend=cpu" in commands()[name]
    assert ".[test,docs]" in commands()[name]


@pytest.mark.parametrize("name", ["devcontainer", "Dockerfile", "binder"])
def test_the_commands_of_other_places_are_shell(name):
    text = commands()[name]
    if name == "Dockerfile":
        joined = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ")
        lines = [line.split(" ", 1) for line in joined.splitlines() if line]
        known = {"FROM", "RUN", "WORKDIR", "COPY", "EXPOSE", "CMD"}
        assert {word for word, _ in lines} <= known and lines[0][0] == "FROM"
        text = "\n".join(rest for word, rest in lines if word == "RUN")
    assert "uv pip install" in text
    subprocess.run(["bash", "-n", "-c", text], check=True)


def test_the_workflow_is_the_command_of_the_readme():
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "test.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make test"]
    assert any("hashFiles('requirements.lock')" in str(step.get("with")) for step in steps)


def test_a_container_offers_what_make_has():
    makefile = (REPOSITORY / "Makefile").read_text()
    target = re.search(r'CMD \["make", "(\w+)"', commands()["Dockerfile"])[1]
    assert re.search(rf"^{target}:", makefile, re.MULTILINE) and "$(LAB)" in makefile
