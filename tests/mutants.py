"""Would a test notice? One fault at a time is put into a module, and the tests of that module alone are run.

    python -m tests.mutants MODULE [--count N] [--seed N]       a module of WITH_TESTS; survivors are printed

A fault is another comparison, operation, number or truth value, or a statement left out. Messages of errors are left
as they are. Each runs in a fork, which has torch loaded but not this library.
"""

import argparse
import ast
import importlib.abc
import importlib.util
import os
import resource
import sys
from pathlib import Path

import numpy as np

from alexnet_lib.paths import REPOSITORY

WITH_TESTS = {
    "normalization": ["test_normalization.py", "test_normalization_compiled.py"],
    "learning": ["test_learning.py", "test_recipes.py"],
    "augmentation": ["test_augmentation.py"],
    "evaluation": ["test_evaluation.py", "test_distortions.py"],
    "ledger.claims": ["test_claims.py"],
}
OTHER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
OTHER |= {ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And}
OTHER |= {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
OTHER |= {ast.Pow: ast.Mult, ast.Mod: ast.Add, ast.MatMult: ast.Mult, ast.USub: ast.UAdd, ast.BitOr: ast.BitAnd}
LONGEST = 5  # times as long as without a fault, and then it counts as noticed


class Mutants(ast.NodeTransformer):
    """Counts the faults that can be made, and makes the one with the number that is asked for."""

    def __init__(self, wanted: int = -1):
        self.wanted, self.count, self.what = wanted, 0, ""

    def here(self, node: ast.AST, what: str) -> bool:
        self.count += 1
        if self.count - 1 == self.wanted:
            self.what = f"line {node.lineno}: {what}"
            return True
        return False

    def visit(self, node: ast.AST):
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return node
        if isinstance(node, ast.AnnAssign) and node.value is None:
            return node
        if isinstance(node, ast.FunctionDef):  # annotations decide nothing
            node.returns = None
            node.decorator_list = node.decorator_list or []
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                argument.annotation = None
        before = ast.unparse(node) if isinstance(node, ast.expr | ast.AugAssign) else ""
        if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
            if self.here(node, f"the comparison {before}"):
                node.ops[0] = OTHER[type(node.ops[0])]()
        elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign | ast.UnaryOp) and type(node.op) in OTHER:
            if self.here(node, f"the operation {before}"):
                node.op = OTHER[type(node.op)]()
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            if self.here(node, f"without not: {before}"):
                return node.operand
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            if self.here(node, f"not {before}"):
                return ast.copy_location(ast.Constant(not node.value), node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            if self.here(node, f"{before} and one more"):
                return ast.copy_location(ast.Constant(node.value + 1), node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if self.here(node, f"without {ast.unparse(node)}"):
                return ast.copy_location(ast.Pass(), node)
        elif isinstance(node, ast.If | ast.IfExp) and self.here(node, f"always if {ast.unparse(node.test)}"):
            node.test = ast.copy_location(ast.Constant(True), node.test)
        return self.generic_visit(node)


class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the altered module to whoever imports it."""

    def __init__(self, name: str, path: Path, tree: ast.Module):
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name, *_):
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def exec_module(self, module):
        exec(compile(self.tree, self.path, "exec"), module.__dict__)


def measured() -> dict[tuple, object]:
    """What each row of the ledger measures, once: no fault of the ledger itself changes it, and it takes seconds."""
    from alexnet_lib.ledger import claims

    rows = [row for row in claims.read_claims() if row.measure]
    return {(row.measure, *row.arguments): claims.measure(row) for row in rows}


def remember(known: dict[tuple, object]) -> None:
    from alexnet_lib.ledger.measures import MEASURES

    for name in {name for name, *_ in known}:
        MEASURES[name] = lambda *arguments, name=name: known[name, *arguments]


def ends(module: str, tree: ast.Module, seconds: float | None, known: dict[tuple, object]) -> tuple[bool, float]:
    """Whether the tests of a module pass with this tree, and within so many seconds of the processor; and how many."""
    if not (pid := os.fork()):
        if seconds:
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), resource.RLIM_INFINITY))
        sink = os.open(os.devnull if seconds else "build/mutants.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        import pytest

        for name in [name for name in sys.modules if name.split(".")[0] in ("alexnet_lib", "tests")]:
            del sys.modules[name]
        path = REPOSITORY / "alexnet_lib" / f"{module.replace('.', '/')}.py"
        sys.meta_path.insert(0, Loader(f"alexnet_lib.{module}", path, tree))
        if known:
            remember(known)
        files = [str(REPOSITORY / "tests" / name) for name in WITH_TESTS[module]]
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files]))
    _, status, usage = os.wait4(pid, 0)
    return status == 0, usage.ru_utime + usage.ru_stime


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or " ").splitlines()[0])
    parser.add_argument("module", choices=WITH_TESTS)
    parser.add_argument("--count", type=int, default=60, help="faults, drawn from all that there are")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    import hypothesis  # noqa: F401
    import pandas  # noqa: F401
    import torch
    import torchvision  # noqa: F401
    from scipy import stats  # noqa: F401

    torch.set_num_threads(1)
    os.makedirs("build", exist_ok=True)
    source = (REPOSITORY / "alexnet_lib" / f"{given.module.replace('.', '/')}.py").read_text(encoding="utf-8")
    known = measured() if given.module == "ledger.claims" else {}
    passed, seconds = ends(given.module, ast.parse(source), None, known)
    if not passed:
        raise SystemExit(f"the tests of {given.module} fail without a fault; see build/mutants.log")
    counter = Mutants()
    counter.visit(ast.parse(source))
    chosen = np.random.default_rng(given.seed).permutation(counter.count)[: given.count]
    survivors = []
    for done, number in enumerate(chosen, 1):
        mutant = Mutants(int(number))
        tree = ast.fix_missing_locations(mutant.visit(ast.parse(source)))
        if ends(given.module, tree, LONGEST * seconds + 5, known)[0]:
            survivors.append(mutant.what)
            print(f"{done}: {mutant.what}", flush=True)
    killed = len(chosen) - len(survivors)
    print(f"{given.module}: {killed} of {len(chosen)} noticed ({killed / len(chosen):.0%}), of {counter.count} faults")


if __name__ == "__main__":
    main()
