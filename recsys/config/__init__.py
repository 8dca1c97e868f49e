"""Job configuration: a TOML file, or the plain values that a saved model holds, checked before any work starts."""

from __future__ import annotations

import copy
import importlib
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from inspect import isclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError

from recsys import params
from recsys.config.data import DataConfig, SplitConfig
from recsys.config.sections import (
    EvaluateConfig,
    JobConfig,
    NightlyConfig,
    TrackConfig,
    TrainConfig,
    TuneConfig,
    check_metrics,
    modules_of,
)
from recsys.datasets import SYNTHETIC
from recsys.errors import ConfigError, absent, did_you_mean
from recsys.models import MODELS, Range
from recsys.workspace import as_path

__all__ = [
    "DataConfig",
    "EvaluateConfig",
    "JobConfig",
    "NightlyConfig",
    "Range",
    "SplitConfig",
    "TrackConfig",
    "TrainConfig",
    "TuneConfig",
    "check_config",
    "check_metrics",
    "import_modules",
    "load_config",
    "load_configs",
    "overridden",
    "settings_of",
]


_BRANCH: Final = re.compile(r"int|float|list\[any\]|(.*\W)?Range\W?")
"""What pydantic adds to the place of a mistake: which of several types was tried."""
_DEEPEST: Final = 20
_TOO_DEEP: Final = f"values are nested too deeply; lists and tables go at most {_DEEPEST} levels deep"


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> JobConfig:
    """Read a TOML file, apply `section.key=value` overrides, and import the modules that `[model] import` names.

    Raises:
        ConfigError: there is no such file, it is not TOML, a module cannot be imported, or as `check_config`.
    """
    file, given = as_path(path), list(overrides)
    where = " ".join([str(file), *(f"--set {override}" for override in given)])
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise absent(
            ConfigError(
                f"there is no configuration file {file}; recsys init makes one of your table, "
                "recsys templates lists others"
            )
        ) from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path that no system has
        raise ConfigError(f"{file} cannot be read: {error}") from None
    try:
        values = tomllib.loads(text)
        for override in given:
            _set(values, override)
    except RecursionError:
        raise ConfigError(f"{where}: {_TOO_DEEP}") from None
    except ConfigError:
        raise
    except ValueError as error:  # of tomllib, or of an integer with thousands of digits
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    _check_values(values, where)
    config = _check(values, where, imports=True)
    if unread := config.data.unread():
        source = config.data.file or config.data.name
        raise ConfigError(
            f"{where}: data.{' and data.'.join(unread)}: not for the data {source!r}; leave out what only "
            f"{'data that are read' if source == SYNTHETIC else 'generated data'} have"
        )
    return config


def overridden(values: Mapping[str, Any], overrides: Iterable[str]) -> JobConfig:
    """Return the configuration of plain values with `section.key=value` overrides; errors as `load_config`."""
    changed, given = copy.deepcopy(dict(values)), list(overrides)
    for override in given:
        _set(changed, override)
    where = " ".join(f"--set {override}" for override in given) or "the configuration"
    _check_values(changed, where)
    return check_config(changed, where)


def load_configs(paths: Iterable[str | Path], overrides: Iterable[str] = ()) -> dict[str, JobConfig]:
    """Read several files by name: `track.run_name` or the model, and the name of the file if those repeat.

    Raises:
        ConfigError: as `load_config`, or two files of one name.
    """
    files, overrides = [as_path(path) for path in paths], list(overrides)
    configs = [load_config(file, overrides) for file in files]
    names = [config.track.run_name or config.model["name"] for config in configs]
    names = [file.stem if names.count(name) > 1 else name for file, name in zip(files, names, strict=True)]
    for name in names:
        if names.count(name) > 1 or set(name) & set("/\\"):
            raise ConfigError(f"several models are called {name!r}, or it cannot name a folder; set track.run_name")
    return dict(zip(names, configs, strict=True))


def check_config(values: Mapping[str, Any], where: str = "the configuration") -> JobConfig:
    """Return the checked configuration of plain values, such as those in a saved model. Nothing is imported.

    Hyperparameters under a name of an earlier version get their present name. Messages call the values `where`.

    Raises:
        ConfigError: an unknown key (the message names the nearest), a wrong value, or what `JobConfig.check` refuses.
    """
    model, tune = values.get("model"), values.get("tune")
    cls = MODELS.get(str(model.get("name"))) if isinstance(model, Mapping) else None
    if cls is not None:
        values = {**values, "model": params.modern(cls, values["model"])}
        if isinstance(tune, Mapping) and isinstance(tune.get("space"), Mapping):
            values["tune"] = {**tune, "space": params.modern(cls, tune["space"])}
    return _check(values, where)


def import_modules(names: str | Iterable[str]) -> None:
    """Import modules, from the working folder first, so that they register models, splitters and more of your own.

    Names are such as `my_models`, `my_models.py` or `package.module`.

    Raises:
        ConfigError: there is no such module, or it cannot be imported; the message names the original error.
    """
    folder = str(Path.cwd())
    importlib.invalidate_caches()
    for name in [names] if isinstance(names, str) else names:
        module = name.removesuffix(".py")
        if not all(part.isidentifier() for part in module.split(".")):
            raise ConfigError(f"import takes the name of a module in {folder} or in the environment, got {name!r}")
        sys.path.insert(0, folder)
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
                raise ConfigError(f"there is no module {module!r} in {folder} or in the environment") from None
            raise ConfigError(f"module {module!r} cannot be imported: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(folder)


def settings_of(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the keys that `section.key=value` settings give, unchecked, as the tables of a file would hold them."""
    values: dict[str, Any] = {}
    for override in overrides:
        _set(values, override)
    _check_values(values, "--set")
    return values


def _check(values: Mapping[str, Any], where: str, *, imports: bool = False) -> JobConfig:
    try:
        if imports:
            import_modules(modules_of(values.get("model")))
        config = JobConfig.model_validate(dict(values))
        config.check(is_stored=not imports)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error.__cause__
    return config


def _set(values: dict[str, Any], override: str) -> None:
    """Apply `a.b=value` in place; the value is read as TOML, or as text if it is not TOML."""
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"--set takes section.key=value, got {override!r}")
    try:
        read = tomllib.loads(f"value = {text}")
    except ValueError:
        read = {}
    value = read["value"] if len(read) == 1 else text  # several: lines that would go unread
    target = values
    for name in names[:-1]:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override}: {name!r} is a value, not a section")
    target[names[-1]] = value


def _check_values(values: Mapping[str, Any], where: str) -> None:
    """Refuse what no section can hold, and text that not every file and database can."""
    level: list[Any] = [values]
    for _ in range(_DEEPEST + 1):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str) and not _is_text(value):
                raise ConfigError(f"{where}: {value!r} is not text: it holds a NUL or an undecodable character")
        level = inner
    if level:
        raise ConfigError(f"{where}: {_TOO_DEEP}")


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _explain(error: ValidationError) -> str:
    """Return a sentence for each mistake, with the nearest known key for unknown ones."""
    sentences = []
    for mistake in error.errors():
        location = [str(part) for part in mistake["loc"] if not _BRANCH.fullmatch(str(part))]
        key = ".".join(location)
        cause = mistake.get("ctx", {}).get("error")
        if mistake["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            sentences.append(f"unknown key {key!r}{did_you_mean(location[-1], _known_keys(location[:-1]))}")
        elif isinstance(cause, ConfigError):
            sentences.append(str(cause))
        else:
            sentences.append(f"{key} = {mistake['input']!r}: {mistake['msg']}")
    return "; ".join(dict.fromkeys(sentences))


def _known_keys(location: list[str]) -> list[str]:
    """Return the keys of the section at a location; deeper than sections lie the ranges of `tune.space` alone."""
    field: Any = JobConfig.model_fields[location[0]].annotation if location else JobConfig
    section: Any = Range if location[1:] else next(kind for kind in (*get_args(field), field) if isclass(kind))
    if not hasattr(section, "model_fields"):
        return list(params.hints(section))
    return [field.alias or name for name, field in section.model_fields.items()]
