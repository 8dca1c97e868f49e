"""Tables for programs: what a job returns, as JSON or CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

Form = Literal["json", "csv"]


def rendered(table: pd.DataFrame | Iterable[Mapping[str, Any]], form: Form) -> str:
    """Return a table as text that ends with its last row.

    - `json`: a list of objects, one a line. What is missing, NaN or infinite is null.
    - `csv`: a line of names, then a line a row; what is missing is empty, a list is written as JSON.

    Numbers of 32 bits have the digits that tell them from other numbers of 32 bits, the same in both forms. Ids that
    are no text and no number are written as `str` shows them.
    """
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(list(table))
    names = list(map(_name, frame.columns))
    columns = [[_plain(value) for value in frame.iloc[:, place].array] for place in range(len(names))]
    rows = list(zip(*columns, strict=True))
    if form == "json":
        lines = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows]
        return "[" + ",\n ".join(lines) + "]\n"
    cells = pd.DataFrame([[_cell(value) for value in row] for row in rows], columns=names, dtype=object)
    text: str = cells.to_csv(index=False, lineterminator="\n")
    return text


def _name(name: Any) -> str:
    """Return the name of a column; of columns in two levels both, as `ndcg@10 standard_error`."""
    return " ".join(map(str, name)).strip() if isinstance(name, tuple) else str(name)


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    if isinstance(value, list | np.ndarray):
        return [_plain(one) for one in value]
    number: Any = value
    if isinstance(value, np.generic):
        number = float(str(value)) if value.dtype in (np.float32, np.float16) else value.item()
    if isinstance(number, float):
        return number if math.isfinite(number) else None
    if number is None or isinstance(number, bool | int | str):
        return number
    return None if number is pd.NA or number is pd.NaT else str(number)


def _cell(value: Any) -> str:
    """Return a value as a cell of CSV."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
