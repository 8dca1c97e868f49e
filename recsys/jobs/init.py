"""Look at a table and write a configuration that suits it, with a comment beside each choice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys.config import load_config
from recsys.errors import ConfigError
from recsys.jobs.first_plan import Plan, plan_for
from recsys.workspace import Workspace, output_file

_COMMENTS = {
    "file": "relative to the folder where the command runs",
    "weights": "what each event is worth; 0 leaves its rows out",
    "binary": "each user and item count once; false lets values count, which ALS and the linear models read",
    "min_rating": "only these are learned and tested as liked; others still count as seen",
    "duplicates": "several rows of one user and item: last, sum, max, or error",
    "stable": "the same users are held out when data are added, as a night needs",
    "refit": "after choosing, fit again with the validation part",
    "metric": "chooses epochs and models",
    "register": "name in the registry: models:/NAME/VERSION",
    "columns": "by which new items are known",
}


def run(
    workspace: Workspace,
    events: Path,
    *,
    items: Path | None = None,
    output: Path | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """Print what a table is understood as, write a configuration for `recsys train`, and return its path.

    Args:
        events: file or folder of interactions.
        items: a table with a row per item: titles, and columns that become features.
        output: the file to write, a new one; NAME.toml in the working folder by default, NAME that of the model
            in the registry, which is that of the data.
        settings: `section.key=value`, in place of what was found.

    Raises:
        ConfigError: the file to write exists, or a setting is wrong.
        DataError: the table cannot be read, or something must be said that it does not tell.
    """
    if output is not None:
        _refuse_existing(output)
    plan = plan_for(events, items, settings)
    path = output or Path(f"{plan.name}.toml")
    _refuse_existing(path)
    target = output_file(path, "--output")
    print(f"{events}\n{plan}\n")
    _write_new(target, as_toml(plan))
    load_config(target)  # as `recsys train` does
    print(f"written   {path}: {plan.models[0].section['name']}, {plan.models[0].reason}")
    print(f"next      recsys train {path}{workspace.option}")
    return path


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path} exists and is not overwritten; name another file with --output, or remove it")


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        _refuse_existing(path)
        raise


def as_toml(plan: Plan) -> str:
    """Return the configuration of a plan's first model as a commented TOML file."""
    lines = [
        f"# {line}".rstrip() for line in (f"{plan.recognized.file}, as it was understood:", *str(plan).split("\n"))
    ]
    lines += ["#", "# recsys train trains, tests, tracks and registers this; every key is in docs/configuration.md."]
    first, *others = plan.models
    for section, keys in {**plan.sections, "model": first.section}.items():
        lines += ["", f"[{section}]"]
        if section == "model":
            lines[-2:] = ["", f"# {first.reason}", "[model]"]
        if section == "split":
            lines[-2:] = ["", f"# {plan.split_reason}", "[split]"]
        lines += [_line(key, value) for key, value in keys.items()]
    for other in others:
        lines += ["", f"# Or: {other.reason}", *(f"# {_line(key, value)}" for key, value in other.section.items())]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    comment = _COMMENTS.get(key)
    return f"{_key(key)} = {_value(value)}{f'  # {comment}' if comment else ''}"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(key))} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)


def _text(text: str) -> str:
    """Return text as a basic string of TOML, which escapes as JSON does, and the character 127 too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
