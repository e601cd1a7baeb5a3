"""How many of the library's lines its tests run, in the processes that they start, too.

    python -m tests.covered [--keep] [-- PYTEST ARGUMENT ...]      keep writes results/reference/coverage/

It runs all tests, or those that the arguments name; the notebooks' cells are not counted. It ends with an error where
a test fails or less than 95 % of the lines are run.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from xml.etree import ElementTree

from alexnet_lib.paths import REFERENCE, REPOSITORY

LEAST = 95  # percent
ALL = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder", "tests"]
FOLDER = REPOSITORY / "build" / "coverage"


def run(arguments: list[str]) -> tuple[list[dict], dict]:
    """Lines of each module, and how the tests have ended."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    own, cover = os.environ | {"OMP_NUM_THREADS": "1"}, [sys.executable, "-m", "coverage"]
    tests = ["-m", "pytest", "-q", "-rs", f"--junitxml={FOLDER / 'tests.xml'}", *arguments]
    code = subprocess.run([*cover, "run", *tests], cwd=REPOSITORY, env=own).returncode
    for step in (["combine", "-q"], ["json", "-q", "-o", str(FOLDER / "lines.json")]):
        subprocess.run([*cover, *step], cwd=REPOSITORY, check=True)
    ended = ElementTree.parse(FOLDER / "tests.xml").getroot()[0].attrib
    counts = {name: int(ended[name]) for name in ("tests", "failures", "errors", "skipped")}
    files = json.loads((FOLDER / "lines.json").read_text())["files"]
    rows = [
        {"module": path, "lines": of["summary"]["num_statements"], "run": of["summary"]["covered_lines"]}
        for path, of in sorted(files.items())
        if of["summary"]["num_statements"]
    ]
    return rows, {"code": code, **counts}


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.covered", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="write results/reference/coverage/")
    parser.add_argument("pytest", nargs="*", metavar="PYTEST ARGUMENT", help="after --: instead of all tests")
    given = parser.parse_args(arguments)
    rows, ended = run(given.pytest or ALL)
    total = {"module": "all", **{name: sum(row[name] for row in rows) for name in ("lines", "run")}}
    for row in [*rows, total]:
        row["percent"] = round(100 * row["run"] / row["lines"], 1)
    for row in sorted(rows, key=lambda row: row["percent"]):
        if row["percent"] < LEAST:
            print(f"{row['module']}: {row['run']} of {row['lines']} lines, {row['percent']} %")
    print(f"{total['run']:,} of {total['lines']:,} lines, {total['percent']} %; {ended}", flush=True)
    percent = 100 * total["run"] / total["lines"]
    if ended["code"] or percent < LEAST:
        return 1
    if given.keep:
        from alexnet_lib.files import write_json
        from alexnet_lib.runs.provenance import provenance
        from alexnet_lib.runs.records import write_table

        (kept := REFERENCE / "coverage").mkdir(exist_ok=True)
        write_table(kept / "lines.csv", [*rows, total])
        asked = ["--", *given.pytest] if given.pytest else []
        command = shlex.join(["python", "-m", "tests.covered", "--keep", *asked])
        ended.pop("code")
        write_json(kept / "summary.json", {"command": command, "percent": round(percent, 2), **ended} | provenance())
    return 0


if __name__ == "__main__":
    sys.exit(main())
