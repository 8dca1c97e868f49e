"""docs/configuration.md, from the docstrings of the configuration's sections and of the functions behind their keys."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from recsys.config import JobConfig, data
from recsys.datasets import READERS
from recsys.options import Option
from recsys.params import describe, field_docs, hints
from recsys.splits import SPLITTERS, options_of_kind

PAGE = Path(__file__).parents[1] / "configuration.md"

HEAD = """# Configuration

Made from the docstrings by `make docs`; change those, not this page.

A TOML file with these sections, all of which may be left out. Unknown keys, wrong types and options that do not go
together are errors before data are read. `--set section.key=value` replaces a value on the command line. A small file:

```toml
[data]
name = "ml-100k"
min_rating = 4.0
binary = true

[model]
name = "EASE"
regularization = 200.0

[evaluate]
metrics = ["ndcg@10", "recall@20"]

[track]
experiment = "first-steps"
register = "first-steps"
```

More are in `pipelines/configs`. Metrics are listed in [metrics.md](metrics.md), data sets by name in
[data/README.md](../data/README.md).

## `[model]`

`name` of a class of [models.md](models.md), and its hyperparameters, which
`python -c "import recsys; help(recsys.EASE)"` lists. `import` names a module of your own, or a list of them, that is
imported first; see the end of this page.
"""

TAIL = '''## Models, splitters and layouts of your own

A module such as `my_parts.py` registers them:

```python
import numpy as np
import pandas as pd

import recsys


@recsys.splits.register
def every_nth(data: recsys.Interactions, n: int = 10) -> recsys.Split:
    """Hold out every n-th entry.

    Args:
        n: distance between test entries.
    """
    return recsys.splits.by_entries(data, None, np.arange(data.nnz) % n == 0)


recsys.datasets.register_reader(
    recsys.datasets.Reader(
        name="jsonl",
        about="a JSON object per line",
        read=lambda path, columns: pd.read_json(path, lines=True),
        recognizes=lambda first_line, path: path.suffix == ".jsonl",
    )
)
```

A file that imports it can use them:

```toml
[data]
file = "plays.jsonl"

[split]
kind = "every_nth"
n = 5

[model]
import = "my_parts"
name = "EASE"
```

Modules are looked for in the working folder and in the environment. Loading a saved model never imports anything;
commands that need a module of your own for it take `--import my_parts`.
'''


def words(hint: Any) -> str:
    """Return a type as a reader of TOML would call it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        members = [member for member in arguments if member is not NoneType]
        return " or ".join(words(member) for member in members if member is not int or float not in members)
    if origin is Literal:
        return ", ".join(f'`"{choice}"`' for choice in arguments)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "table"
    if origin in (tuple, list):
        return f"list of {words(arguments[0])}"
    if origin is Annotated and get_origin(arguments[0]) is not None:
        return words(arguments[0])
    if hint in (bool, Hashable):
        return "true or false" if hint is bool else "text or number"
    return describe(hint).removeprefix("a ").replace("finite number", "number")


def value(default: object) -> str:
    """Return a default as TOML has it; nothing if there is none."""
    if default is None or default == {} or default is inspect.Parameter.empty:
        return ""
    if isinstance(default, Mapping):
        return f"`{{{', '.join(f'{chr(34)}{name}{chr(34)} = {share}' for name, share in default.items())}}}`"
    return f"`{str(default).lower() if isinstance(default, bool) else repr(default)}`".replace("'", '"')


def rows(entries: Iterable[tuple[str, Any, object, str]]) -> list[str]:
    """Return a table with a row for each key: name, type, default and meaning."""
    lines = ["| key | value | default | |", "|---|---|---|---|"]
    for name, hint, default, meaning in entries:
        meaning = (meaning[:1].upper() + meaning[1:]).replace("|", "\\|")
        lines.append(f"| `{name}` | {words(hint)} | {value(default)} | {meaning} |")
    return lines


def fields(section: Any) -> list[tuple[str, Any, object, str]]:
    """Return name, type, default and meaning of the keys of a section that are its own fields."""
    docs = field_docs(section)
    if not hasattr(section, "model_fields"):
        made = section()
        return [(name, hint, getattr(made, name), docs.get(name, "")) for name, hint in hints(section).items()]
    found = []
    for name, field in section.model_fields.items():
        hint = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        found.append((field.alias or name, hint, field.default, docs.get(name, "")))
    return found


def options(parameters: Mapping[str, Option]) -> list[tuple[str, Any, object, str]]:
    """Return name, type, default and meaning of the keys of a section that are parameters of a function."""
    return [(name, option.type, option.default, option.meaning) for name, option in parameters.items()]


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    further = {"data": data_sources, "split": splitters}
    for name, field in JobConfig.model_fields.items():
        if name != "model":
            kinds = (*get_args(field.annotation), field.annotation)
            section: Any = next(kind for kind in kinds if inspect.isclass(kind))
            lines += [f"## `[{name}]`\n", f"{inspect.getdoc(section)}\n", *rows(fields(section)), ""]
            lines += further[name]() if name in further else []
    return "\n".join([*lines, TAIL])


def data_sources() -> list[str]:
    """Return the keys of `[data]` that are parameters of functions, and the layouts of files."""
    lines = ["To select interactions:\n", *rows(options(data.FILTER)), ""]
    lines += ["For data that are read, named or from a file:\n", *rows(options(data.READ)), ""]
    lines += ["For the synthetic data set:\n", *rows(options(data.GENERATE)), ""]
    lines += ["Layouts of files, in the order in which they are tried:\n", "| layout | files |", "|---|---|"]
    lines += [f"| `{reader.name}` | {reader.about} |" for reader in READERS.values()]
    return [*lines, ""]


def splitters() -> list[str]:
    """Return the splitters with their options."""
    lines = []
    for kind, splitter in SPLITTERS.items():
        summary = (inspect.getdoc(splitter) or "").split("\n\nArgs:")[0].split("\n\nRaises:")[0]
        lines += [f'### `kind = "{kind}"`\n', f"{summary}\n"]
        if parameters := options_of_kind(kind):
            lines += [*rows(options(parameters)), ""]
    return lines
