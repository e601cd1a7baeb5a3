"""What the parameters cell of a notebook says, read from the cells that its kernel has run and never from globals.

Any later cell may use a parameter's name for something else, and a cell may run again, edited, in any order.
"""

import ast
from collections.abc import Iterable

INJECTED = "# Parameters"  # how the cell begins that Papermill adds


def said(cells: list[str], names: Iterable[str], namespace: dict, also: Iterable[str] = ()) -> dict | None:
    """What the parameters cell says as it last ran, and what the one says that Papermill injected after it.

    Args:
        cells: the sources in the order in which they ran; IPython's `In`.
        names: of the parameters, by which their cell is told from others.
        namespace: where a value is worked out that is not a literal.
        also: further names that it may assign.

    Returns:
        The values by name, misspelt names among them; None where no parameters cell has run.

    Raises:
        ValueError: a value that cannot be worked out, or that is not assigned by a plain `name = value`.
    """
    read, names = [_assignments(cell) for cell in cells], set(names)
    injected = [number for number, cell in enumerate(cells) if cell.startswith(INJECTED)]
    chosen = _parameters_cell({n: cell for n, cell in enumerate(read) if n not in injected}, names)
    chosen += [number for number in injected if number >= min(chosen, default=0)][-1:]
    found: dict = {}
    for number in sorted(chosen):
        values, rest = read[number]
        hidden = {n.id for s in rest for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if hidden & names:
            raise ValueError(f"{', '.join(sorted(hidden & names))}: accepted is a plain assignment, `name = value`")
        for name, value in values.items():
            if name in names.union(also) or number in injected or _is_constant(value):
                found[name] = _worked_out(name, value, namespace | found)
    return found if chosen else None


def _parameters_cell(read: dict, names: set[str]) -> list[int]:
    """The number of the newest cell that assigns most of the names, and of those that a reader has split off it.

    A split-off cell holds nothing but constants, and none of the names of the others.
    """
    kept: list[int] = []
    for number in reversed(read):
        values, rest = read[number]
        own = names & values.keys()
        apart = [other for other in kept if not own & read[other][0].keys()]
        assigned = names & set().union(*(read[other][0] for other in kept))
        if 2 * len(own) > len(names) >= 2 * len(assigned):
            kept = [*apart, number]
        elif own and apart == kept and not rest and all(map(_is_constant, values.values())):
            kept.append(number)
    return kept


def _assignments(source: str) -> tuple[dict[str, ast.expr], list[ast.stmt]]:
    """What a cell assigns to plain names at top level, and its other statements."""
    values, rest = {}, []
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # it ran nothing
        return values, rest
    for statement in statements:
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else getattr(statement, "targets", [])
        value = getattr(statement, "value", None)
        if targets and value and all(isinstance(target, ast.Name) for target in targets):
            values |= dict.fromkeys((target.id for target in targets), value)
        else:
            rest.append(statement)
    return values, rest


def _is_constant(value: ast.expr) -> bool:
    return not any(isinstance(node, ast.Name | ast.Call) for node in ast.walk(value))


def _worked_out(name: str, value: ast.expr, namespace: dict):
    try:
        return eval(compile(ast.Expression(value), "<parameters>", "eval"), namespace)
    except Exception as error:
        raise ValueError(f"{name} = {ast.unparse(value)}: {error}") from None
