"""The walkthrough runs what has changed, in order, and says what went wrong."""

import asyncio
import gc
import json
import os
import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from alexnet_lib import ALLOCATOR, cores, walkthrough
from alexnet_lib.files import Damaged
from alexnet_lib.paths import NOTEBOOKS, data_dir
from alexnet_lib.runs import jupyter
from tests.small_notebooks import write_notebook

NONE = {"parameters": {}, "notebooks": {}}
CHAIN = {"a_last": ("c_first",), "b_middle": ("c_first",), "z_end": ("a_last",)}


@pytest.fixture
def ran(monkeypatch):
    """Replaces Papermill: a list of (notebook, parameters) that grows; notebooks that say `1 / 0` fail."""
    calls = []

    def run(notebook, output, parameters):
        calls.append((notebook.stem, parameters))
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("executed")
        return "in cell 2 (cell-1): 1 / 0" if "1 / 0" in notebook.read_text() else None

    monkeypatch.setattr(walkthrough, "run_notebook", run)
    monkeypatch.setattr(walkthrough, "ledger_in_short", str)  # one test measures the claims
    return calls


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Folders of notebooks, library, output and data; `walk(...)` walks through the notebooks."""
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path / "data"))
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "code.py").write_text("a = 1")
    for name in ("z_end", "a_last", "b_middle", "c_first", "d_alone"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", "print(x)")

    def walk(changes=None, profile=NONE, only=(), **options):
        todo = walkthrough.plan(tmp_path / "notebooks", profile, changes or {}, only, CHAIN)
        places = tmp_path / "notebooks", todo, tmp_path / "out", tmp_path / "library"
        found = walkthrough.walk(*places, dependencies=CHAIN, **options)
        return {name: result for name, (result, _) in found.items()}

    walk.folder = tmp_path
    return walk


def names(calls) -> list[str]:
    return [name for name, _ in calls]


def test_a_notebook_comes_after_what_it_builds_on(place, ran):
    assert set(place().values()) == {"ok"}
    order = names(ran)
    assert sorted(order) == sorted(["z_end", "a_last", "b_middle", "c_first", "d_alone"])
    assert order.index("c_first") < order.index("a_last") < order.index("z_end")
    assert order.index("c_first") < order.index("b_middle")


def test_the_table_of_dependencies_orders_the_projects_own_notebooks():
    order = walkthrough.in_order(["09_qualitative", "08_results", "07_train", "01_architecture", "00_dataset"])
    assert order.index("00_dataset") < order.index("07_train") < order.index("08_results")
    assert order.index("07_train") < order.index("09_qualitative")


def test_only_brings_along_what_it_builds_on(place, ran):
    place(only=["z_end"])
    assert names(ran) == ["c_first", "a_last", "z_end"]


def test_nothing_runs_twice(place, ran):
    place()
    ran.clear()
    assert set(place().values()) == {"up to date"}
    assert ran == []
    assert set(place(force=True).values()) == {"ok"}


def test_an_edited_notebook_runs_again_with_what_builds_on_it(place, ran):
    place()
    ran.clear()
    write_notebook(place.folder / "notebooks" / "a_last.ipynb", "print(x + 1)")
    place()
    assert names(ran) == ["a_last", "z_end"]


def test_outputs_of_the_committed_notebook_are_no_reason_to_run_again(place, ran):
    place()
    ran.clear()
    path = place.folder / "notebooks" / "a_last.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[1].execution_count = 7
    nbformat.write(notebook, path)
    place()
    assert ran == []


def test_a_parameter_and_the_library_with_its_folders_are_reasons_to_run_again(place, ran):
    code = place.folder / "library" / "code.py"
    place()
    ran.clear()
    place({"x": 2})
    assert len(ran) == 5 and all(parameters == {"x": 2} for _, parameters in ran)
    for number, path in enumerate((code, code.parent / "wing" / "code.py", code.parent / "wing" / "more.py")):
        ran.clear()
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"b = {number}")
        place({"x": 2})
        assert len(ran) == 5


def test_new_data_and_a_new_store_are_reasons_to_run_again(place, ran):
    path = place.folder / "notebooks" / "d_alone.ipynb"
    write_notebook(path, "print(x)", parameters='dataset = "pictures"')
    place(only=["d_alone"])
    for name in ("pictures/one.jpg", "prepared/pictures-256/train/meta.json"):
        (data_dir() / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir() / name).write_bytes(b"new \xff")  # damaged or not
        assert place(only=["d_alone"]) == {"d_alone": "ok"}
        assert place(only=["d_alone"]) == {"d_alone": "up to date"}


def test_what_a_notebook_prepares_is_no_reason_to_run_it_again(place, monkeypatch):
    write_notebook(place.folder / "notebooks" / "d_alone.ipynb", parameters='dataset = "pictures"')

    def prepare(notebook, output, parameters):
        store = data_dir() / "prepared" / "pictures-256" / "train"
        store.mkdir(parents=True)
        (store / "meta.json").write_text("{}")
        output.touch()

    monkeypatch.setattr(walkthrough, "run_notebook", prepare)
    assert place(only=["d_alone"]) == {"d_alone": "ok"}
    assert place(only=["d_alone"]) == {"d_alone": "up to date"}


def test_a_failure_stops_what_builds_on_it_and_nothing_else(place, ran, capsys):
    write_notebook(place.folder / "notebooks" / "a_last.ipynb", "1 / 0")
    expected = {"c_first": "ok", "a_last": "failed", "b_middle": "ok", "d_alone": "ok", "z_end": "skipped"}
    assert place() == expected
    assert "z_end: skipped, it needs a_last" in capsys.readouterr().out
    ran.clear()
    assert place() == {name: "up to date" if r == "ok" else r for name, r in expected.items()}
    assert names(ran) == ["a_last"]


def test_a_run_that_was_killed_is_not_up_to_date(place, ran, monkeypatch):
    place(only=["d_alone"])
    run = walkthrough.run_notebook
    monkeypatch.setattr(walkthrough, "run_notebook", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        place(only=["d_alone"], force=True)
    monkeypatch.setattr(walkthrough, "run_notebook", run)
    assert place(only=["d_alone"]) == {"d_alone": "ok"}


def test_notebooks_of_a_chain_come_first(place, ran):
    write_notebook(place.folder / "notebooks" / "e_alone.ipynb")
    place()
    assert names(ran)[0] == "c_first" and names(ran)[-2:] == ["e_alone", "d_alone"]


def test_two_at_a_time(tmp_path, capfd, monkeypatch):
    """Each of two notebooks waits until the other has begun; what builds on one that failed is skipped."""
    notebooks, where = tmp_path / "notebooks", tmp_path / "out"
    waits = "import time\nfrom pathlib import Path\nPath('{}').touch()\nwhile not Path('{}').exists(): time.sleep(0.05)"
    write_notebook(notebooks / "one.ipynb", waits.format("a", "b"))
    write_notebook(
        notebooks / "other.ipynb", waits.format("b", "a"), "import os\nos.environ['OMP_NUM_THREADS']", "1 / 0"
    )
    write_notebook(notebooks / "after.ipynb", "x")
    (tmp_path / "own.toml").write_text("jobs = 2")
    monkeypatch.setattr(walkthrough, "ledger_in_short", str)
    before = dict(os.environ)
    arguments = ["--profile", str(tmp_path / "own.toml"), "--output", str(where)]
    assert walkthrough.main(arguments, notebooks, {"after": ("other",)}) == 1
    assert dict(os.environ) == before
    said = capfd.readouterr().out
    assert "one: ok" in said and "other: failed" in said and "ZeroDivisionError" in said
    assert "after: skipped, it needs other" in said


@pytest.mark.parametrize(
    ("profile", "changes", "only", "named"),
    [
        ({}, {"epohcs": 3}, (), "epohcs.*d_alone has x"),
        ({"parameters": {"epohcs": 3}}, {}, (), "epohcs.*d_alone has x"),
        ({"notebooks": {"d_alone": {"epohcs": 3}}}, {}, (), "epohcs.*d_alone has x"),
        ({"notebooks": {"e_missing": {}}}, {}, (), "e_missing.*d_alone"),
        ({}, {}, ("e_missing",), "e_missing.*d_alone"),
    ],
)
def test_what_does_not_exist_is_refused_before_any_work(place, ran, profile, changes, only, named):
    with pytest.raises(ValueError, match=named):
        place(changes, NONE | profile, only)
    assert ran == []


def test_a_notebooks_own_value_beats_the_shared_one_and_the_command_beats_both(place, ran):
    profile = {"parameters": {"x": 2}, "notebooks": {"d_alone": {"x": 3}}}
    place(profile=profile, only=["d_alone", "c_first"])
    assert dict(ran) == {"c_first": {"x": 2}, "d_alone": {"x": 3}}
    place({"x": 4}, profile, only=["d_alone"])
    assert ran[2:] == [("d_alone", {"x": 4})]


@pytest.mark.parametrize("source", ["x = 1 + y", "x.y = 1", "import os", "x = [1]\nprint(x)"])
def test_a_parameters_cell_holds_plain_assignments(tmp_path, source):
    with pytest.raises(ValueError, match=r"a\.ipynb: parameters are `name = literal`"):
        walkthrough.declared_parameters(write_notebook(tmp_path / "a.ipynb", parameters=source))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"cells": 3}', '{"cells": [3]}', "[" * 100_000, "\ud800"])
def test_a_damaged_notebook_is_named(tmp_path, text):
    (path := tmp_path / "a.ipynb").write_bytes(text.encode(errors="surrogatepass"))
    for read in (walkthrough.declared_parameters, walkthrough.Watch, lambda notebook: walkthrough.stamp(notebook, {})):
        with pytest.raises(Damaged, match=f"{path}: "):
            read(path)


def test_declared_parameters_with_annotations_and_signs(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", parameters='x: int = -1  # help\ny = "a = b"\nz = None')
    assert walkthrough.declared_parameters(path) == {"x": -1, "y": "a = b", "z": None}
    two = write_notebook(tmp_path / "b.ipynb", ("y = 1", "parameters"))
    with pytest.raises(ValueError, match="2 cells tagged"):
        walkthrough.declared_parameters(two)


@pytest.mark.parametrize("name", sorted(p.stem for p in walkthrough.PROFILES.glob("*.toml")))
def test_every_profile_fits_the_notebooks(name):
    profile = walkthrough.load_profile(name)
    assert profile["description"]
    todo = walkthrough.plan(NOTEBOOKS, profile, {})
    assert set(todo) == {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    assert todo["07_train"]["dataset"] == ("embedded" if name == "cifar10" else name)  # too small for the net


def test_an_unknown_profile_or_a_misspelt_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match="embeded.*embedded"):
        walkthrough.load_profile("embeded")
    (tmp_path / "own.toml").write_text("[parameter]\nx = 1")
    with pytest.raises(ValueError, match="own.toml: parameter is .*; accepted"):
        walkthrough.load_profile(str(tmp_path / "own.toml"))


@pytest.mark.parametrize(
    ("word", "value"),
    [("20", 20), ("1e-3", 1e-3), ("bf16", "bf16"), ("None", None), ("07_train", "07_train")],
)
def test_words_of_the_command_line(word, value):
    assert walkthrough.literal(word) == value


def test_the_command_runs_real_notebooks_and_reports(tmp_path, capfd):
    """Papermill itself, once: a parameter arrives, the folder is right, failing cells are named."""
    notebooks, where = tmp_path / "notebooks", tmp_path / "out"
    write_notebook(notebooks / "good.ipynb", "from pathlib import Path\nPath(f'was-{x}').touch()", "1;")
    broken = "raise ValueError('first words\\nmiddle\\nlast words')"
    write_notebook(notebooks / "broken.ipynb", "y = 0", f"# find me\n{broken}", "print('never')")
    write_notebook(notebooks / "dead.ipynb", "import os\nos._exit(1)")
    write_notebook(notebooks / "after.ipynb", "x")
    (tmp_path / "own.toml").write_text("[parameters]\nx = 5")
    arguments = ["--profile", str(tmp_path / "own.toml"), "--output", str(where)]
    walkthrough.machine(), walkthrough.ledger_in_short()  # torch sets a variable when it is loaded
    before = dict(os.environ)
    code = walkthrough.main(arguments, notebooks, {"after": ("broken",)})
    said = capfd.readouterr()
    assert code == 1
    changed = {name for name, _ in os.environ.items() ^ before.items()}
    assert changed <= {"TORCHINDUCTOR_CACHE_DIR"}  # torch's, where it first compiles
    assert (notebooks / "was-5").exists()
    assert "good: cell 3 of 3" in said.out
    assert "in cell 3 (cell-2): # find me" in said.out
    assert "ValueError: first words" in said.out and "last words" in said.out and "middle" not in said.out
    assert "in cell 2 (cell-1): import os" in said.out and "DeadKernelError" in said.out
    assert [line.split()[:2] for line in said.out.splitlines()[-5:-1]] == [
        ["broken", "failed"],
        ["dead", "failed"],
        ["good", "ok"],
        ["after", "skipped"],
    ]
    assert re.fullmatch(r"the ledger, \d+ claims: .*\d+ holds.*", said.out.splitlines()[-1])
    assert json.loads((where / "machine.json").read_text())["cores"] == cores()
    assert "WARNING" not in said.err
    assert walkthrough.main([*arguments, "--only", "good"], notebooks, {}) == 0
    said = capfd.readouterr().out
    assert "up to date" in said and "the ledger, " not in said
    with pytest.raises(SystemExit) as refused:
        walkthrough.main([*arguments, "-p", "y", "1"], notebooks, {})
    assert refused.value.code == 2 and "good has x" in capfd.readouterr().err


def test_kernels_start_with_the_allocator_and_without_pytest(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    environment = jupyter.kernel_environment(TZ="UTC")
    assert environment["MALLOC_MMAP_MAX_"] == "0" and environment["TZ"] == "UTC"
    assert not {"MPLBACKEND", "PYTEST_CURRENT_TEST"} & environment.keys()
    makefile = (Path(walkthrough.__file__).parents[1] / "Makefile").read_text()
    for name, value in ALLOCATOR.items():
        assert f"export {name} := {value}\n" in makefile


def test_kernels_have_the_folders_of_the_command_wherever_their_notebooks_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALEXNET_RUNS", "runs")
    monkeypatch.setenv("ALEXNET_DATA", "../data")
    monkeypatch.setenv("ALEXNET_STORES", "")
    environment = jupyter.kernel_environment()
    assert environment["ALEXNET_RUNS"] == str(tmp_path / "runs")
    assert environment["ALEXNET_DATA"] == str(tmp_path.parent / "data") and environment["ALEXNET_STORES"] == ""
    monkeypatch.setenv("ALEXNET_STORES", "~/stores")
    monkeypatch.delenv("ALEXNET_DATA")
    environment = jupyter.kernel_environment()
    assert environment["ALEXNET_STORES"] == str(Path.home() / "stores") and "ALEXNET_DATA" not in environment
    assert jupyter.kernel_environment(ALEXNET_RUNS=None).get("ALEXNET_RUNS") is None


@pytest.mark.parametrize(("length", "usable"), [(93, True), (94, False)])
def test_channels_are_files_where_their_path_is_short_enough(length, usable):
    folder = "/" + "x" * (length - 1)
    options = jupyter.kernel_channels(folder)
    assert options == ({"transport": "ipc", "ip": f"{folder}/kernel"} if usable else {})


def test_a_kernel_starts_where_the_folder_for_its_channels_has_a_long_path(tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    notebook = write_notebook(tmp_path / "a.ipynb", "print(6 * 7)")
    assert walkthrough.run_notebook(notebook, tmp_path / "out" / "a.ipynb", {}) is None


def test_who_is_stopped_before_the_machine_is_named_finds_it_named_the_next_time(tmp_path, ran, monkeypatch):
    """Nothing is left to run then; and a machine that was named before isn't taken for the one that ran since."""
    notebook, named = tmp_path / "notebooks" / "a.ipynb", tmp_path / "out" / "machine.json"
    (tmp_path / "own.toml").write_text("")
    arguments = [["--profile", str(tmp_path / "own.toml"), "--output", str(tmp_path / "out")], notebook.parent, {}]
    for code, cores_of in (("1", 7), ("2", 8)):
        write_notebook(notebook, code)
        monkeypatch.setattr(walkthrough, "machine", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit):
            walkthrough.main(*arguments)
        assert not named.exists()
        monkeypatch.setattr(walkthrough, "machine", lambda cores_of=cores_of: {"cores": cores_of})
        assert walkthrough.main(*arguments) == 0
        assert json.loads(named.read_text()) == {"cores": cores_of, "notebooks": {"a": {"cores": cores_of}}}
    assert names(ran) == ["a", "a"]


def test_a_kernel_that_is_stopped_as_it_starts_is_gone(tmp_path, monkeypatch):
    """It is nobody's yet: nbclient ends those that it has a connection to, and knows of none within `Popen`."""
    started, popen = [], subprocess.Popen

    def stop(*arguments, **options):
        started.append(popen(*arguments, **options))
        raise SystemExit(130)

    monkeypatch.setattr("jupyter_client.launcher.Popen", stop)
    notebook = write_notebook(tmp_path / "a.ipynb", "print(6 * 7)")
    with pytest.raises(SystemExit):
        walkthrough.run_notebook(notebook, tmp_path / "out" / "a.ipynb", {})
    (kernel,) = started
    assert kernel.poll() is not None


def test_braces_and_spaces_in_paths_are_no_parameters(tmp_path):
    notebook = write_notebook(tmp_path / "my {x} notes" / "a.ipynb", "from pathlib import Path", "Path('{y}').touch()")
    executed = tmp_path / "runs {0} here" / "a.ipynb"
    assert walkthrough.run_notebook(notebook, executed, {"x": 5}) is None
    assert executed.exists() and (notebook.parent / "{y}").exists()


def test_a_folder_of_pictures_is_looked_for_where_the_command_is_given(tmp_path, ran, monkeypatch):
    write_notebook(tmp_path / "notebooks" / "a.ipynb", parameters='dataset = "auto"')
    (tmp_path / "shots" / "one").mkdir(parents=True)
    (tmp_path / "embedded").mkdir()  # a known name stays one
    (tmp_path / "own.toml").write_text("[notebooks.a]\ndataset = 'shots'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(walkthrough, "machine", dict)
    for given in (["-p", "dataset", "./shots"], ["-p", "dataset", "shots"], [], ["-p", "dataset", "embedded"]):
        arguments = ["--profile", "own.toml", "--output", "out", "--force", *given]
        assert walkthrough.main(arguments, tmp_path / "notebooks", {}) == 0
    assert [parameters["dataset"] for _, parameters in ran] == [str(tmp_path / "shots")] * 3 + ["embedded"]


@pytest.mark.parametrize(
    ("profile", "options", "named"),
    [
        ("", ["--jobs", "0"], "jobs = 0; accepted are whole numbers from 1 on"),
        ("jobs = 'two'", [], "jobs is 'two'; accepted: a valid integer"),
        ("parameters = 3", [], r"own\.toml: parameters is 3; accepted: a valid dictionary"),
        ("notebooks = 3", [], r"own\.toml: notebooks is 3; accepted"),
        ("[notebooks]\na = 3", [], r"own\.toml: notebooks\.a is 3; accepted: a valid dictionary"),
        ("jobs = ", [], r"own\.toml: it can't be read \(Invalid value"),
    ],
)
def test_a_profile_of_other_types_is_refused_by_name(tmp_path, ran, capsys, profile, options, named):
    write_notebook(tmp_path / "notebooks" / "a.ipynb")
    (tmp_path / "own.toml").write_text(profile)
    with pytest.raises(SystemExit):
        walkthrough.main(["--profile", str(tmp_path / "own.toml"), *options], tmp_path / "notebooks", {})
    assert re.search(named, capsys.readouterr().err) and ran == []


@pytest.mark.parametrize("state", ["", "[]", "{", "null"])
def test_a_state_that_cannot_be_read_runs_everything_again(place, ran, state):
    place(only=["d_alone"])
    (place.folder / "out" / "state.json").write_text(state)
    assert place(only=["d_alone"]) == {"d_alone": "ok"}
    assert place(only=["d_alone"]) == {"d_alone": "up to date"}


def test_what_a_stopped_notebook_leaves_undone_says_nothing(tmp_path, monkeypatch, caplog):
    """Its kernel ends while a task waits for an answer, and nobody waits for the task."""

    async def fails():
        raise RuntimeError("Kernel died")

    async def stopped():
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        assert task.done()
        raise SystemExit(130)

    monkeypatch.setattr(walkthrough.papermill, "execute_notebook", lambda *_, **__: asyncio.run(stopped()))
    write_notebook(tmp_path / "a.ipynb", "pass")
    with pytest.raises(SystemExit):
        walkthrough.run_notebook(tmp_path / "a.ipynb", tmp_path / "out" / "a.ipynb", {})
    gc.collect()
    assert caplog.records == []


def test_stores_elsewhere_are_among_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_STORES", str(tmp_path / "stores"))
    before = walkthrough.data_listing("auto")
    (tmp_path / "stores" / "tiny_imagenet-73" / "train").mkdir(parents=True)
    (tmp_path / "stores" / "tiny_imagenet-73" / "train" / "meta.json").write_text("{}")
    assert walkthrough.data_listing("auto") != before


def test_the_claims_are_among_the_sources(tmp_path):
    (tmp_path / "ledger").mkdir()
    stamps = set()
    for paper in (1, 2):
        (tmp_path / "ledger" / "claims.toml").write_text(f"paper = {paper}")
        stamps.add(walkthrough.sources(tmp_path))
    assert len(stamps) == 2


def test_a_picture_with_other_bytes_is_another_parameter(tmp_path):
    stamps, given = set(), {"picture": str(tmp_path / "mine.jpg")}
    for data in (b"one", b"two"):
        (tmp_path / "mine.jpg").write_bytes(data)
        stamps.add(walkthrough.stamp(NOTEBOOKS / "09_qualitative.ipynb", given))
    assert len(stamps) == 2


def test_each_notebook_has_the_machine_that_it_was_run_on(tmp_path, ran, monkeypatch):
    for name in ("a", "b"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", "print(x)")
    (tmp_path / "own.toml").write_text("")
    arguments = ["--profile", str(tmp_path / "own.toml"), "--output", str(tmp_path / "out")]
    for device, more in (("cpu", []), ("cuda", ["--only", "b", "--force"])):
        monkeypatch.setattr(walkthrough, "machine", lambda device=device: {"device": device})
        assert walkthrough.main([*arguments, *more], tmp_path / "notebooks", {}) == 0
    named = json.loads((tmp_path / "out" / "machine.json").read_text())
    assert named == {"device": "cuda", "notebooks": {"a": {"device": "cpu"}, "b": {"device": "cuda"}}}


def test_pictures_and_runs_that_come_later_change_what_rests_on_them(tmp_path, monkeypatch):
    for name in ("DATA", "RUNS"):
        monkeypatch.setenv(f"ALEXNET_{name}", str(tmp_path / name))
    pictures = tmp_path / "mine"
    (pictures / "train" / "cat").mkdir(parents=True)
    (tmp_path / "DATA" / "prepared" / "mine-256" / "train").mkdir(parents=True)
    (tmp_path / "DATA" / "prepared" / "mine-256" / "train" / "meta.json").write_text("{}")
    seven, eight = NOTEBOOKS / "07_train.ipynb", NOTEBOOKS / "08_results.ipynb"
    first = walkthrough.stamp(seven, {"dataset": str(pictures)})
    assert walkthrough.stamp(seven, {"dataset": str(pictures)}) == first
    (pictures / "train" / "cat" / "new.png").write_bytes(b"")
    assert walkthrough.stamp(seven, {"dataset": str(pictures)}) != first
    before = [walkthrough.stamp(notebook, {}) for notebook in (seven, eight)]
    (tmp_path / "RUNS" / "train" / "mine").mkdir(parents=True)
    (tmp_path / "RUNS" / "train" / "mine" / "summary.json").write_text("{}")
    after = [walkthrough.stamp(notebook, {}) for notebook in (seven, eight)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]
