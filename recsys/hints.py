"""What errors advise, in the words of the command line: a key of the configuration or an option for each argument."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recsys.arguments import Command

_HINT = re.compile(
    r"--set \S+"  # what was typed
    r"|(?<!\w)'[^']*'(?!\w)|\"[^\"]*\""  # ids, columns and other values
    r"|(?<![-\w.])(?P<name>[a-z_]{2,})=(?P<value>'[^']*'|\[[^\]]*\]|\d[\d.]*|None|True|False|\.\.\.)?(?![=\w])"
)
_WORDS = {"True": "true", "False": "false"}


def in_commands_words(message: str, command: Command) -> str:
    """Return a message that names an argument, such as `pass duplicates='last'`, as a person at the command line can.

    An argument is the command's own option where that names a file or another thing by the same word, else the key of
    the configuration that is handed on under that name: `data.duplicates = 'last'`. Other words stay as they are, and
    so does everything in quotes.
    """
    if not re.search(r"[a-z_]=", message):
        return message
    places = keys()
    flags = _flags(command)

    def named(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        if name is None or (name not in flags and name not in places):
            return found[0]
        if name in flags:
            return flags[name] + ("" if value in (None, "...") else f" {value.strip(chr(39))}")
        if value == "None":  # which a file of TOML has not
            return places[name] + (" = false" if places[name].startswith("data.") else " unset")
        return places[name] + ("" if value in (None, "...") else f" = {_WORDS.get(value, value)}")

    return _HINT.sub(named, message)


def _flags(command: Command) -> Mapping[str, str]:
    """Return the options of a command by the argument of the functions below it: those that no key is called as."""
    flags = {
        str(settings.get("dest", flag[0].lstrip("-").replace("-", "_"))): flag[0] for flag, settings in command.options
    }
    able = {name: flag for name, flag in flags.items() if flag.startswith("--")}
    return {name: flag for name, flag in able.items() if name in ("items", "method", "on_unknown")}


def keys() -> dict[str, str]:
    """Return the keys of a configuration by the name of the argument under which a function gets them."""
    from recsys.config.data import FILTER, GENERATE, READ
    from recsys.config.sections import EvaluateConfig
    from recsys.models import MODELS
    from recsys.splits import SPLITTERS, options_of_kind

    of_models = {name for model in MODELS.values() for name in _fields(model)}
    of_splits = {name for kind in SPLITTERS for name in options_of_kind(kind)}
    return {
        **{name: f"data.{name}" for name in GENERATE},
        **{name: f"model.{name}" for name in of_models},
        **{name: f"split.{name}" for name in of_splits},
        **{name: f"evaluate.{name}" for name in EvaluateConfig.model_fields},
        **{name: f"data.{name}" for name in {**FILTER, **READ}},
        "path": "data.file",
    }


def _fields(model: Any) -> list[str]:
    return list(getattr(model, "__dataclass_fields__", ()))
