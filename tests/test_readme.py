"""What README says of the project is so."""

import json
import re
import subprocess
from dataclasses import asdict
from itertools import dropwhile, takewhile

import numpy as np
import pandas as pd
import pytest

import alexnet_lib
from alexnet_lib import training
from alexnet_lib.dataset import STORE_SIZES
from alexnet_lib.paths import REFERENCE, REPOSITORY
from alexnet_lib.runs import processes, stopping
from alexnet_lib.runs.settings import TrainSettings

README = (REPOSITORY / "README.md").read_text()
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")]
PAGES += sorted({*(REPOSITORY / "docs").glob("*.md")} - {REPOSITORY / "docs" / "start.md"})  # START_HERE's source


def rows_after(heading, text=README):
    """The cells of the first table that a heading, or its own first cell, begins."""
    lines = (heading + text.split(heading)[1]).splitlines()
    lines = dropwhile(lambda line: not line.startswith("|"), lines)
    table = list(takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in t]
    assert [target for target in targets if not (page.parent / target).exists()] == []
    assert len(targets) > 20 or text != README


def test_the_tests_that_hold_the_promises_are_there():
    text = (REPOSITORY / "docs" / "promises.md").read_text(encoding="utf-8")
    named = re.findall(r"(\w+\.py)::(\w+)", text)
    assert len(named) > 10
    assert [name for file, name in named if f"def {name}(" not in (REPOSITORY / "tests" / file).read_text()] == []


def test_the_readme_is_short():
    """Two pictures and about a thousand words, code, tables and all."""
    assert len(README.split()) <= 1050 and README.count("![") == 2


def test_every_notebook_is_in_the_table():
    named = set(re.findall(r"\[(\d\d_\w+)\]", README))
    assert named == {path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb")}


def test_every_section_has_one_module_and_every_folder_a_line():
    modules = [re.findall(r"\]\((.+?)\)", row[2]) for row in rows_after("| section of the paper")]
    assert {len(named) for named in modules} == {1}
    library = REPOSITORY / "alexnet_lib"
    assert all((REPOSITORY / path).parent == library for (path,) in modules)
    folders = {path.parent.name for path in library.glob("*/__init__.py")}
    assert {cells[0].split("]")[0].strip("[") for cells in rows_after("| folder", CONTRIBUTING)} == folders


def test_torchrun_is_for_several_machines():
    """On one it would listen on all interfaces without need, where our own commands do not."""
    pages = [
        REPOSITORY / "README.md",
        REPOSITORY / "docs" / "imagenet.md",
        *REPOSITORY.glob("notebooks/*.ipynb"),
        *REPOSITORY.rglob("alexnet_lib/*.py"),
    ]
    lines = [line for page in pages for line in page.read_text().splitlines() if "torchrun --n" in line]
    assert lines and [line for line in lines if "--nnodes" not in line] == []


def test_names_of_the_example_are_importable():
    names = re.search(r"from alexnet_lib import (.+)", README)[1].split(", ")
    assert all(getattr(alexnet_lib, name) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'AlexNet'"):
        _ = alexnet_lib.AlexNet


@pytest.mark.parametrize(
    ("row", "images", "size", "unit"),
    [
        ("built-in", 2016 + 600, STORE_SIZES["embedded"], "MB"),
        ("CIFAR-10", 60_000, STORE_SIZES["cifar10"], "GB"),
        ("200 classes", 100_000 + 10_000, STORE_SIZES["tiny_imagenet"], "GB"),
        ("ten classes", 9469 + 3925, 256, "GB"),
        ("ILSVRC", 1_281_167 + 50_000, 256, "GB"),
    ],
)
def test_sizes_on_disk_are_those_of_the_arrays(row, images, size, unit):
    disk = next(cells[2] for cells in rows_after("## Data at each scale") if cells[0].startswith(row))
    stated = float(re.search(rf"([\d.]+) {unit} prepared", disk)[1])
    exact = images * size * size * 3 / {"MB": 1e6, "GB": 1e9}[unit]
    assert np.isclose(stated, exact, rtol=0.1)


def epoch_of(pattern, threads):
    """The seconds of a middling epoch of each kept run whose name matches, on so many threads."""
    threads_of = {run: json.loads((run / "summary.json").read_text())["threads"] for run in REFERENCE.glob(pattern)}
    runs = [run for run, count in threads_of.items() if count == threads]
    return [pd.read_csv(run / "timing.csv")["seconds"].median() for run in runs]


def test_times_of_training_are_from_the_records():
    whole = json.loads((REFERENCE / "embedded-quarter-threads2" / "summary.json").read_text())
    cifar, tiny = epoch_of("lrn-conv-local-*", 1), epoch_of("ablation-*-tiny_imagenet-*", 1)
    ten = epoch_of("imagenette-*", 2)
    days = [90 * 1_281_167 / 9469 * seconds / 86_400 for seconds in ten]
    stated = {
        "built-in": f"{whole['epochs']} epochs in {whole['seconds'] / 60:.0f} minutes on two cores",
        "CIFAR-10": f"{min(cifar):.0f} to {max(cifar):.0f} seconds on one core",
        "200 classes": f"{min(tiny):.0f} to {max(tiny):.0f} seconds on one core",
        "ten classes": f"{min(ten) / 60:.0f} to {max(ten) / 60:.0f} minutes on two cores",
        "ILSVRC-2012": f"at Imagenette's speeds, {min(days):.0f} to {max(days):.0f}",
    }
    times = {row[0]: row[3] for row in rows_after("## Data at each scale")}
    for data, words in stated.items():
        assert any(words in time for name, time in times.items() if name.startswith(data)), words


class TinyImageNet:
    """What settings ask of its training store."""

    size, crop, classes = 73, 64, range(200)

    def __len__(self):
        return 100_000


def test_the_half_width_net_is_that_of_the_records():
    """The options that stand there, and "auto" for the rest, are the settings of the runs whose times the table has."""
    kept = json.loads((REFERENCE / "ablation-baseline-tiny_imagenet-seed0" / "config.json").read_text())
    default, asked = re.search(r"On Tiny ImageNet it trains (.+); the half-width net above is (.+)", README).groups()
    options = {name: type(kept[name])(value) for name, value in re.findall(r"-p (\w+) ([\w.]+)", asked)}
    run = TrainSettings(dataset="tiny_imagenet", device="cpu", precision="bf16", **options).filled(TinyImageNet())
    others = ("name", "experiment")
    assert {k: v for k, v in asdict(run).items() if k not in others} == {
        k: v for k, v in kept.items() if k not in others
    }
    narrow = TrainSettings(dataset="tiny_imagenet", device="cpu").filled(TinyImageNet())
    assert (narrow.width, default) == (0.25, f"a quarter-width net for {narrow.epochs} epochs")


def blocks_of(text):
    return re.findall(r"(?ms)^```\n(.*?)^```", text)


def test_the_page_on_imagenet_begins_as_readme_does():
    """It is in the book, and README is not."""
    ours = blocks_of(README.split("## Training for real")[1])
    assert ours and blocks_of((REPOSITORY / "docs" / "imagenet.md").read_text(encoding="utf-8"))[: len(ours)] == ours


def test_the_tests_without_make_are_those_of_make():
    lines = subprocess.run(
        ["make", "--dry-run", "--old-file", ".venv/installed", "test"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.splitlines()
    lines = [line.removeprefix("ALEXNET_CHECKED=build/checked ") for line in lines if " -m " in line]
    install = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8")
    assert "\n".join(["export OMP_NUM_THREADS=1", *lines, ""]) in blocks_of(install) and len(lines) == 4


def test_a_gpu_needs_what_the_pages_say():
    """The lock's PyTorch is built for CUDA 13, whose drivers are 580 and newer and whose first cards are Turing's."""
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert set(re.findall(r"(?m)^nvidia-\S+-cu(\d+)==", lock)) == {"13"}
    for name in ("install.md", "imagenet.md"):
        text = (REPOSITORY / "docs" / name).read_text(encoding="utf-8")
        assert all(words in text for words in ("CUDA 13", "compute capability 7.5", "driver 580 or newer"))


def test_the_container_is_started_as_its_file_says():
    (install,) = [b for b in blocks_of((REPOSITORY / "docs" / "install.md").read_text()) if "docker build" in b]
    commented = (REPOSITORY / "Dockerfile").read_text()
    assert all(f"#   {line}\n" in commented for line in install.splitlines())


def test_a_block_of_shell_can_be_pasted_whole():
    """An interactive zsh takes a comment after a command for its arguments, and brackets for a pattern."""
    for page in PAGES:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            assert not re.search(r"\s#\s|(?<![\"'])\.\[", block), (page.name, block)


def test_how_long_a_run_has_to_stop_is_what_the_program_gives_it():
    text = (REPOSITORY / "docs" / "imagenet.md").read_text(encoding="utf-8")
    assert (stopping.IN_TIME, processes.STOP_SECONDS, training.CHECKPOINT_SECONDS) == (5, 120, 600)
    assert all(words in text for words in ("within five seconds", "gets two minutes", "every ten minutes"))
    assert f"ends with code {processes.GO_ON}," in text


def test_what_imagenet_takes_is_from_the_records():
    """Each number, as it is printed, follows from a kept measurement."""
    text = (REPOSITORY / "docs" / "imagenet.md").read_text(encoding="utf-8")
    prepared = pd.read_csv(REFERENCE / "preparation" / "preparation.csv").set_index("cores")
    core = prepared.loc[1]
    batches = pd.read_csv(REFERENCE / "loader" / "loader.csv").set_index("way")
    loader, used, clock = (batches[name] for name in ("images_per_processor_second", "processor_ratio", "ratio"))
    about = json.loads((REFERENCE / "loader" / "summary.json").read_text())
    threads = pd.read_csv(REFERENCE / "loader" / "threads.csv").query("pages == 'warm'")
    threads = threads.set_index("way")["pictures_per_second"]
    step = pd.read_csv(REFERENCE / "step-128" / "step.csv").set_index("way").loc["fast"]
    rate = core["processor_prepare"]
    stated = [
        f"everything | {rate:.0f} of one core | {core['processor_plain_ratio']:.1f} times"
        f" | {core['plain_ratio']:.1f} times |",
        f"the same | | {core['processor_bare_ratio']:.1f} times | {core['bare_ratio']:.1f} times |",
        f"cutting alone | {core['processor_pixels']:.0f} of one core | {core['processor_pixels_ratio']:.1f} times"
        f" | {core['pixels_ratio']:.1f} times; {prepared.loc[2, 'pixels_ratio']:.1f} times on two cores |",
        f"in {1_331_167 / rate / 16 / 60:.0f} minutes",
        f"write {rate * 16 * 256 * 256 * 3 / 1e9:.1f} GB a second",
        f"raw store | {loader['raw store']:,.0f} of one core | {used['raw store']:.1f} times"
        f" | {clock['raw store']:.1f} times on two cores |",
        f"JPEG store | {loader['jpeg store']:,.0f} of one core | {used['jpeg store']:.1f} times"
        f" | {clock['jpeg store']:.1f} times on two cores |",
        f"by two threads | {threads['2 threads']:,} by the clock |"
        f" | {threads['2 threads'] / threads['ceiling']:.1f} times |",
        f"bfloat16 units | | {step['processor_ratio']:.1f} times | {step['ratio']:.1f} times |",
        f"{1_281_167 * 90 / 1e6:.0f} million images",
        f"the raw store of {about['raw_gigabytes']:.0f} GB",
    ]
    assert [words for words in stated if words not in text] == []
    for words in (f"JPEG, at least {about['jpeg_gigabytes']:.0f} GB", f"raw pixels, {about['raw_gigabytes']:.0f} GB"):
        assert words in README
