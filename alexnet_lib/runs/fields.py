"""The kinds of values that settings have, and how a wrong one is refused."""

import dataclasses
import difflib
import os
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

LONGEST_NAME = 200  # bytes; file systems take 255, and files beside a folder add to its name
Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
MOST_EPOCHS = 10_000
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
Width = Annotated[float, Field(gt=0, le=16, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
checked = dataclass(frozen=True, config=ConfigDict(strict=True))


def _dataset(name: str) -> str:
    if not name.strip():
        raise ValueError("a data set's name or the path of a folder")
    return name


def _folder(name: str) -> str:
    if name in ("", "..") or Path(name).name != name or len(os.fsencode(name)) > LONGEST_NAME:
        raise ValueError(f"the name of one folder, without a path, of at most {LONGEST_NAME} bytes")
    if any(unicodedata.category(character) == "Cc" for character in name):  # they would steer a terminal that shows it
        raise ValueError("the name of one folder, without control characters")
    return name


def _in_float32(value: float) -> float:
    if abs(value) > 1e36:
        raise ValueError("at most 1e36")
    if 0 < abs(value) < 1e-36:
        raise ValueError("at least 1e-36, as less is zero in float32")
    return value


Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_in_float32)]
Positive = Annotated[Finite, Field(gt=0)]
Dataset = Annotated[str, AfterValidator(_dataset)]
FolderName = Annotated[str, AfterValidator(_folder)]


def check(kind: type, values: dict):
    """Make settings of a kind from named values.

    Raises:
        ValueError: every unknown name, missing or impossible value, with what was found and what is accepted.
    """
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - fields):
        close = [repr(name) for word in unknown for name in difflib.get_close_matches(word, fields, 1)]
        meant = f"did you mean {', '.join(close)}? " if close else ""
        raise ValueError(f"unknown parameter {', '.join(map(repr, unknown))}; {meant}accepted are {', '.join(fields)}")
    optional = {name for name, annotation in fields.items() if type(None) in get_args(annotation)}
    wanted = {name: [] for name in sorted(optional & values.keys()) if values[name] in ("None", "none", "null")}
    try:
        made = kind(**values)
    except ValidationError as error:
        for problem in error.errors():
            want = re.sub("^(Input should be|Value error,) ", "", problem["msg"])
            wanted.setdefault(str(problem["loc"][0]), []).append(want)
    if not wanted:
        return made
    lines = []
    for name, wants in wanted.items():
        accepted = ", or ".join([*wants, "None"] if name in optional else wants)
        found = f"{name} = {values[name]!r}; accepted is {accepted}" if name in values else f"{name} is missing"
        lines.append(found + _hint(values.get(name), accepted))
    raise ValueError("\n".join(lines))


def _hint(value, accepted: str) -> str:
    """How to write what was probably meant, where Papermill or YAML has made something else of it."""
    if value in ("None", "none", "null", None):
        if "None" not in accepted:
            return " (left out, a parameter has its default)"
        return f" (not the word {value!r}: None in Python and after Papermill's -p, null in YAML and JSON)"
    if "string" in accepted and isinstance(value, int | float):
        return (
            f" (a word, not a number: after Papermill's -p {value} is a number, after -r a word; elsewhere quotes help)"
        )
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", value, re.IGNORECASE):
        number = float(value)
        if "integer" in accepted and number.is_integer():
            return f" (a number, not a word: {number:.0f} without quotes)"
        with_point = value if "." in value else re.sub("e", ".0e", value, flags=re.IGNORECASE)
        return f" (a number, not a word: {with_point} in YAML, without quotes)"
    return ""
