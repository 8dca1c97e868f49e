"""`make docs`: docs/configuration.md from the docstrings of the configuration's sections."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from recsys import config, drift, promotion

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

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

More are in `pipelines/configs`. `[model]` takes the `name` of a class of [models.md](models.md) and its arguments:
`python -c "import recsys; help(recsys.EASE)"` lists them. `[split]` takes what the function of its `kind` takes
(`help(recsys.splits.hold_out_users)`), which also has the defaults that are empty here. Metrics are listed in
[metrics.md](metrics.md), data sets by name in [data/README.md](../data/README.md).
"""


def described(*owners: type) -> dict[str, str]:
    """Return what stands below each field in the source of the classes; the first that says something counts."""
    found: dict[str, str] = {}
    for owner in owners:
        body = ast.parse(inspect.getsource(owner)).body[0].body  # type: ignore[attr-defined]
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found.setdefault(field.target.id, " ".join(str(text.value.value).split()))  # type: ignore[union-attr]
    return found


def kind(annotation: object) -> str:
    """Return a type as a reader of TOML would call it."""
    if set(get_args(annotation)) and all(isinstance(value, str) for value in get_args(annotation)):
        return ", ".join(f'`"{value}"`' for value in get_args(annotation))
    text = str(getattr(annotation, "__name__", annotation)) if isinstance(annotation, type) else str(annotation)
    if text.startswith(("dict", "tuple")) or "dict[" in text or "tuple[" in text:
        return "table" if "dict" in text else "list of texts"
    words = {"bool": "true or false", "int": "whole number", "float": "number", "str": "text"}
    names = [words[name] for name in re.findall(r"\b(bool|int|float|str)\b", text)]
    if "number" in names:
        names = [name for name in names if name != "whole number"]
    return " or ".join(names)


def value(default: object) -> str:
    """Return a default as TOML has it; nothing where there is none."""
    if default is None or default == {}:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else repr(default)}`".replace("'", '"')


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    further: dict[str, tuple[type, ...]] = {"promote": (promotion.Rule,), "drift": (drift.Limits,)}
    for name, field in config.JobConfig.model_fields.items():
        section = next(
            (kind for kind in (field.annotation, *get_args(field.annotation)) if inspect.isclass(kind)), None
        )
        if section is None or not issubclass(section, BaseModel):
            continue
        lines.append(f"## `[{name}]`\n\n{inspect.getdoc(section)}\n")
        lines.append("| key | value | default | |\n|---|---|---|---|")
        texts = described(section, *further.get(name, ()))
        for key, entry in section.model_fields.items():
            text = texts.get(key, "").replace("|", "\\|")
            lines.append(f"| `{entry.alias or key}` | {kind(entry.annotation)} | {value(entry.default)} | {text} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
