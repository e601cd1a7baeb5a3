"""Runs the notebooks of a profile in order, and only those for which something has changed.

python -m alexnet_lib.walkthrough --profile embedded
python -m alexnet_lib.walkthrough --profile imagenette --only 07_train -p epochs 20
"""

import argparse
import ast
import json
import logging
import multiprocessing
import os
import platform
import signal
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Annotated
from unittest import mock

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from pydantic import ConfigDict, Field
from tqdm import tqdm

from . import cores
from .commands import ends_well
from .files import Stored, at_work, named_values, read_json, sha256, tidy, write_json
from .paths import NOTEBOOKS, REFERENCE, REPOSITORY, data_dir, require_checkout, runs_dir, stores_dir
from .runs.jupyter import one_kernel
from .runs.processes import end, end_with
from .runs.stored import Notebook

PROFILES = Path(__file__).parent / "profiles"
# a notebook that reads what another one wrote; the rest stand alone
DEPENDENCIES = {"07_train": ("00_dataset",), "08_results": ("07_train",), "09_qualitative": ("07_train",)}
MACHINE = "machine.json"  # beside the notebooks: what they were computed on, the last of them and each
OF_RUNS = ("reader_runs", "run_to_look_at")  # what finds the reader's own runs
BROKEN = ("failed", "skipped")
LONG_CELL = 5.0  # seconds after which the terminal shows what the cell prints
say = partial(print, flush=True)


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """A notebook; Damaged where the file holds none."""
    read_json(path, Notebook)
    return nbformat.read(path, 4)


def declared_parameters(notebook: Path) -> dict:
    """The names that a notebook's one parameters cell assigns, each to a literal, with these defaults."""
    cells = [c for c in read_notebook(notebook).cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{notebook.name}: {len(cells)} cells tagged 'parameters'; it must be one")
    found = {}
    for line in ast.parse(cells[0].source).body:
        try:
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            found[target.id] = ast.literal_eval(line.value)
        except (AttributeError, ValueError):
            text = ast.unparse(line)
            raise ValueError(f"{notebook.name}: parameters are `name = literal`, not {text!r}") from None
    return found


class Profile(Stored):
    """What a profile may say: parameters of all notebooks that have them, and of single ones."""

    model_config = ConfigDict(strict=True, extra="forbid")
    description: str = ""
    jobs: Annotated[int, Field(ge=1)] = 1
    parameters: dict = {}
    notebooks: dict[str, dict] = {}


def load_profile(profile: str) -> dict:
    """A profile by its name, or by the path of a TOML file of the same form."""
    path = Path(profile) if profile.endswith(".toml") else PROFILES / f"{profile}.toml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise ValueError(f"no profile {profile!r}; there are {names}, or the path of a .toml file")
    text = path.read_text(encoding="utf-8", errors="replace")
    return Profile(**named_values(path.name, text, Profile, "Mend it", tomllib.loads)).model_dump()


def in_order(names: Iterable[str], dependencies: Mapping = DEPENDENCIES) -> list[str]:
    """The notebooks so that each comes after those it reads from, and otherwise by name."""
    names = set(names)
    graph = {name: names & set(dependencies.get(name, ())) for name in sorted(names)}
    return list(TopologicalSorter(graph).static_order())


def plan(folder: Path, profile: dict, changes: dict, only=(), dependencies: Mapping = DEPENDENCIES) -> dict:
    """What to run, {notebook: parameters} in order; `only` brings along what it builds on."""
    declared = {path.stem: declared_parameters(path) for path in sorted(folder.glob("*.ipynb"))}
    missing = (set(only) | profile["notebooks"].keys()) - declared.keys()
    if missing or not declared:
        raise ValueError(f"no notebook {sorted(missing)}; accepted are those of {folder}: {', '.join(declared)}")
    chosen = set(only) or set(declared)
    for name in reversed(in_order(declared, dependencies)):
        chosen |= set(dependencies.get(name, ())) & declared.keys() if name in chosen else set()
    wanted = [(name, declared) for name in profile["parameters"]] + [(name, chosen) for name in changes]
    wanted += [(name, [notebook]) for notebook, own in profile["notebooks"].items() for name in own]
    for parameter, notebooks in wanted:
        if not any(parameter in declared[name] for name in notebooks):
            choices = "; ".join(f"{name} has {', '.join(declared[name])}" for name in sorted(notebooks))
            raise ValueError(f"no parameter {parameter!r}; accepted are: {choices}")
    todo = {}
    for name in in_order(chosen, dependencies):
        given = profile["parameters"] | profile["notebooks"].get(name, {}) | changes
        todo[name] = {key: value for key, value in given.items() if key in declared[name]}
    return todo


def digest(*parts) -> str:
    return sha256(json.dumps(parts, sort_keys=True).encode())[:16]


def sources(library: Path) -> str:
    """Changes with the library, in all of its folders, and with the reference runs."""
    files = [*library.rglob("*.py"), *library.rglob("*.toml"), *REFERENCE.rglob("*.*")]
    return digest(*([str(f), sha256(f.read_bytes())] for f in sorted(files) if f.is_file()))


def stamp(notebook: Path, parameters: dict, *others) -> str:
    """Changes with a notebook, its parameters, data and other needs, and the reader's runs where it asks for them."""
    cells = [(cell.cell_type, cell.source) for cell in read_notebook(notebook).cells]
    given = {**declared_parameters(notebook), **parameters}
    listing = data_listing(str(given["dataset"])) if given.get("dataset") else []
    picture = Path(str(given.get("picture"))).expanduser()
    shown = [sha256(picture.read_bytes())] if picture.is_file() else []
    asks = any(name in source for _, source in cells for name in OF_RUNS)
    runs = sorted((runs_dir() / "train").glob("*/summary.json")) if asks else []
    found = [[str(path), path.stat().st_mtime_ns] for path in runs]
    return digest(cells, parameters, listing, found, *shown, *others)


def data_listing(dataset: str) -> list:
    """What identifies a data set: the descriptions of its prepared stores, or else its files' names and sizes.

    Of a folder of the reader's also when its splits and classes have last gained or lost a file.
    """
    folder, stores = Path(dataset), "*" if dataset == "auto" else f"{Path(dataset).name}-*"
    places = [folder, *folder.glob("*/"), *folder.glob("*/*/")] if folder.is_absolute() and folder.is_dir() else []
    changed = [[str(place), place.stat().st_mtime_ns, ""] for place in places if place.is_dir()]
    files = list(stores_dir(data_dir()).glob(f"{stores}/*/meta.json")) or list((data_dir() / dataset).rglob("*.*"))
    if dataset in ("auto", "embedded"):
        files += (REPOSITORY / "data" / "embedded").rglob("*.*")
    files = [path for path in files if path.is_file()]  # a link may lead nowhere
    known = [[str(f), f.stat().st_size, f.read_bytes().hex() if f.name == "meta.json" else ""] for f in files]
    return sorted([*known, *changed])


class Watch:
    """Follows a running notebook: remembers its cell, and passes on what a long cell prints.

    A notebook that has the terminal for itself shows a bar; one of several prints lines.
    """

    def __init__(self, notebook: Path):
        self.name = notebook.stem
        self.total = sum(c.cell_type == "code" for c in read_notebook(notebook).cells)
        self.cell, self.number, self.since = {"source": "the kernel did not start"}, 0, time.monotonic()
        self.bar = sys.stderr.isatty() and multiprocessing.parent_process() is None

    def start(self, cell, cell_index):
        injected = "injected-parameters" in cell.metadata.get("tags", [])
        self.cell, self.number, self.since = cell, self.number + (not injected), time.monotonic()
        if not (injected or self.bar):
            say(f"{self.name}: cell {self.number} of {self.total}")

    def write(self, text):
        if time.monotonic() - self.since > LONG_CELL:
            tqdm.write(text, end="")

    def flush(self):
        sys.stdout.flush()


def run_notebook(notebook: Path, output: Path, parameters: dict) -> str | None:
    """Runs a notebook in its folder and writes the executed copy; gives what went wrong and where, or None."""
    output.parent.mkdir(parents=True, exist_ok=True)
    for name in ("papermill", "asyncio"):  # what goes wrong is raised as well, unless a notebook is being stopped
        logging.getLogger(name).setLevel(logging.CRITICAL)
    watch = Watch(notebook)
    bar = {"desc": watch.name, "leave": False} if watch.bar else False
    options = {"coalesce_streams": True, "store_widget_state": False}
    options |= {"on_cell_execute": watch.start, "stdout_file": watch, "progress_bar": bar}
    try:
        with one_kernel() as kernel:
            # Papermill takes {x} in a path for a parameter
            source, target = (str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, output))
            papermill.execute_notebook(source, target, parameters, cwd=notebook.parent, **options, **kernel)
    except (PapermillExecutionError, CellTimeoutError, DeadKernelError) as error:
        name, text = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
        lines = f"{name}: {text}".strip().splitlines()
        first = watch.cell["source"].strip().splitlines()[0]
        where = f"in cell {watch.number} ({watch.cell.get('id', 'no id')}): {first}"
        return "\n    ".join([where, lines[0], *([lines[-1]] if len(lines) > 1 else [])])


class Here:
    """An executor that runs what it is given at once, in this process."""

    def submit(self, function, *arguments) -> Future:
        future = Future()
        future.set_result(function(*arguments))
        return future


def walk(
    folder: Path, todo: dict, output: Path, library: Path, force=False, dependencies=DEPENDENCIES, pool=None, jobs=1
) -> dict:
    """Runs what is not up to date; gives {notebook: ("ok", "up to date", "failed" or "skipped", seconds)}.

    A pool of processes runs several notebooks at a time, and first those that depend on others or that others need.
    """
    output.mkdir(parents=True, exist_ok=True)
    state_file = output / "state.json"
    state = {}
    with suppress(OSError, ValueError):  # a damaged one has all of them run again
        state = read_json(state_file)
    pool, code = pool or Here(), sources(library)
    results, stamps, began, waiting, running = {}, {}, {}, [], {}
    built_on = {name: set(dependencies.get(name, ())) & todo.keys() for name in todo}
    chained = set().union(*built_on.values()) | {name for name, before in built_on.items() if before}
    # later chapters train longer; started last, one of them would keep a single core busy at the end
    urgency = {name: (name in chained, number) for number, name in enumerate(todo)}
    order = TopologicalSorter(built_on)
    order.prepare()

    def stamp_of(name: str) -> str:
        before = [stamps[other] for other in sorted(built_on[name])]
        return stamp(folder / f"{name}.ipynb", todo[name], code, before)

    def begin(name: str) -> bool:
        """Start it, or say what became of it without."""
        executed = output / f"{name}.ipynb"
        if broken := [other for other in sorted(built_on[name]) if results[other][0] in BROKEN]:
            say(f"{name}: skipped, it needs {', '.join(broken)}")
            results[name] = "skipped", 0.0
            return False
        stamps[name] = stamp_of(name)
        if state.get(name) == stamps[name] and executed.is_file() and not force:
            results[name] = "up to date", 0.0
            return False
        state[name] = "not finished"
        write_json(state_file, state)
        (output / MACHINE).unlink(missing_ok=True)  # it is written last, also where what follows is killed
        say(f"{name}: running, to {executed}")
        began[name] = time.monotonic()
        running[pool.submit(run_notebook, folder / f"{name}.ipynb", executed, todo[name])] = name
        return True

    def end(name: str, problem: str | None) -> None:
        results[name] = "failed" if problem else "ok", time.monotonic() - began[name]
        say(f"{name}: {results[name][0]} after {results[name][1]:.1f} s {problem or ''}".strip())
        # stamped again: the data may include what the notebook has just prepared
        stamps[name] = stamp_of(name)
        state[name] = "failed" if problem else stamps[name]
        write_json(state_file, state)
        order.done(name)

    while order.is_active():
        waiting = sorted([*waiting, *order.get_ready()], key=urgency.get, reverse=True)
        while waiting and len(running) < jobs:
            if not begin(name := waiting.pop(0)):
                order.done(name)
        if running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                end(running.pop(future), future.result())
    return {name: results[name] for name in todo}


def in_parallel(steps, jobs: int) -> dict:
    """`walk` with so many processes, each with its share of the cores."""
    threads = str(max(1, cores() // jobs))
    shares = mock.patch.dict(os.environ, {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)})
    options = {"initializer": begin_process, "initargs": (os.getpid(),)}
    with shares, ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), **options) as pool:
        try:
            return steps(pool=pool, jobs=jobs)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)  # whose kernel has ended waits for no other notebook
            end(multiprocessing.active_children())
            raise


def begin_process(parent: int) -> None:
    """Makes a process of `in_parallel` end with its parent, and shut down its kernel first."""
    end_with(parent)
    # KeyboardInterrupt would be shown by one that waits for work
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C comes to all; the parent passes it on


def machine() -> dict:
    """What this machine computes on."""
    import torch  # seconds, which only a walkthrough of minutes should cost

    from .runs.settings import find_device

    device = find_device()
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return {"device": name, "cores": cores(), "processor": platform.machine()}


def machines(before: dict, results: dict) -> dict:
    """`machine`, and under "notebooks" that of each; of those that were up to date, as machine.json had it before."""
    here, known = machine(), before.get("notebooks", {})
    former = {name: value for name, value in before.items() if name != "notebooks"}
    kept = {name: known.get(name, former or here) for name, (result, _) in results.items() if result == "up to date"}
    return here | {"notebooks": known | dict.fromkeys(results, here) | kept}


def ledger_in_short() -> str:
    """How many claims have each verdict."""
    from .ledger.claims import claims

    counts = claims()["verdict"].value_counts()
    return f"the ledger, {counts.sum()} claims: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def literal(word: str):
    """The Python literal that a word of the command line means, else the word."""
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


def from_here(path):
    """The absolute path of what is named relative to where the command was given; kernels run elsewhere."""
    if not Path(str(path)).expanduser().exists():
        return path
    from .dataset import HOW_TO_GET  # seconds, for torch

    return path if path in HOW_TO_GET else str(Path(str(path)).expanduser().resolve())


def main(arguments: list[str] | None = None, folder: Path = NOTEBOOKS, dependencies=DEPENDENCIES) -> int:
    """The command; gives the exit code."""
    parser = argparse.ArgumentParser("python -m alexnet_lib.walkthrough", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument(
        "--profile", default="embedded", help="a name in alexnet_lib/profiles, or a .toml file (embedded)"
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="NOTEBOOK", help="these and what they build on")
    parser.add_argument("--jobs", type=int, help="notebooks at a time; the profile's unless given")
    parser.add_argument("--force", action="store_true", help="run what is up to date as well")
    changed = "for every notebook that has this parameter, like papermill's -p; can be repeated"
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="changes", help=changed
    )
    parser.add_argument("--output", type=Path, help="folder of the executed notebooks (runs/walkthrough/PROFILE)")
    chosen = parser.parse_args(arguments)
    output = (chosen.output or runs_dir() / "walkthrough" / Path(chosen.profile).stem).resolve()
    try:
        require_checkout("the notebooks")
        changes = {name: literal(value) for name, value in chosen.changes}
        profile = load_profile(chosen.profile)
        todo = plan(folder, profile, changes, chosen.only, dependencies)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    jobs = profile["jobs"] if chosen.jobs is None else chosen.jobs
    if type(jobs) is not int or jobs < 1:
        parser.error(f"jobs = {jobs!r}; accepted are whole numbers from 1 on")
    for parameters in todo.values():
        for name in parameters.keys() & {"dataset", "picture"}:
            parameters[name] = from_here(parameters[name])
    steps = partial(walk, folder, todo, output, Path(__file__).parent, chosen.force, dependencies)
    with ends_well(parser, f"the notebooks that are finished are kept in {output}"):
        with at_work(output):
            tidy(output)
            before = {}
            with suppress(OSError, ValueError):  # a damaged one is written anew
                before = read_json(output / MACHINE)
            results = in_parallel(steps, jobs) if jobs > 1 else steps()
            if not (output / MACHINE).is_file():
                write_json(output / MACHINE, machines(before, results))
        print(f"\n{len(results)} notebooks in {output}")
        for name, (result, seconds) in results.items():
            print(f"  {name:24} {result:12} {seconds:7.1f} s")
        if any(result == "ok" for result, _ in results.values()):
            print(ledger_in_short())
    return int(any(result in BROKEN for result, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main())
