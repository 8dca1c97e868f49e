"""Reading configurations: TOML files with overrides, and the plain values that a saved model holds."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from recsys import params
from recsys.config.sections import JobConfig, Range, modules_of
from recsys.errors import ConfigError, did_you_mean
from recsys.models import MODELS


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> JobConfig:
    """Read a TOML file, apply `section.key=value` overrides, and import the modules that `[model] import` names.

    Raises:
        ConfigError: no such file, not TOML, a module that cannot be imported, an unknown key (the message names the
            nearest), a wrong value, or what `JobConfig.check` refuses.
    """
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    given = list(overrides)
    for override in given:
        _set(values, override)
    where = " ".join([str(file), *(f"--set {override}" for override in given)])
    try:
        import_modules(modules_of(values.get("model")))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return _check(values, where)


def load_configs(paths: Iterable[str | Path], overrides: Iterable[str] = ()) -> dict[str, JobConfig]:
    """Read several files by name: `track.run_name` or the model, and the name of the file if those repeat.

    Raises:
        ConfigError: as `load_config`, or two files of one name.
    """
    files = [Path(path) for path in paths]
    overrides = list(overrides)
    configs = [load_config(file, overrides) for file in files]
    names = [config.track.run_name or config.model["name"] for config in configs]
    names = [file.stem if names.count(name) > 1 else name for file, name in zip(files, names, strict=True)]
    for name in names:
        if names.count(name) > 1 or set(name) & set("/\\"):
            raise ConfigError(f"several models are called {name!r}, or it cannot name a folder; set track.run_name")
    return dict(zip(names, configs, strict=True))


def check_config(values: Mapping[str, Any], where: str = "the configuration") -> JobConfig:
    """Return the checked configuration of plain values, such as those in a saved model. Nothing is imported.

    Hyperparameters under a name of an earlier version get their present name.

    Args:
        where: what the values are, for messages.

    Raises:
        ConfigError: an unknown key, a wrong value, or what `JobConfig.check` refuses.
    """
    model, tune = values.get("model"), values.get("tune")
    cls = MODELS.get(str(model.get("name"))) if isinstance(model, Mapping) else None
    if cls is not None and isinstance(model, Mapping):
        values = {**values, "model": params.modern(cls, model)}
        if isinstance(tune, Mapping) and isinstance(tune.get("space"), Mapping):
            values["tune"] = {**tune, "space": params.modern(cls, tune["space"])}
    return _check(values, where)


def import_modules(names: str | Iterable[str]) -> None:
    """Import modules, from the working folder first, so that they register models, splitters and more of your own.

    Args:
        names: `my_models`, `my_models.py` or `package.module`.

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
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
                raise ConfigError(f"there is no module {module!r} in {folder} or in the environment") from None
            raise ConfigError(f"module {module!r} cannot be imported: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(folder)


def _check(values: Mapping[str, Any], where: str) -> JobConfig:
    try:
        config = JobConfig.model_validate(dict(values))
        config.check()
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return config


def _set(values: dict[str, Any], override: str) -> None:
    """Apply `a.b=value` in place; the value is read as TOML, or as text if it is not TOML."""
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"--set takes section.key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    target = values
    for name in names[:-1]:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override}: {name!r} is a value, not a section")
    target[names[-1]] = value


def _explain(error: ValidationError) -> str:
    """Return a sentence for each mistake, with the nearest known key for unknown ones."""
    sentences = []
    for mistake in error.errors():
        location = [str(part) for part in mistake["loc"]]
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
    """Return the keys of the section at a location."""
    owner: Any = JobConfig
    for name in location:
        # The range of a hyperparameter lies under its name in tune.space, where a list of choices may stand as well.
        owner = _fields(owner).get(name, Range)
    return list(_fields(owner))


def _fields(owner: Any) -> dict[str, Any]:
    """Return the types of a section's keys; the section may be optional."""
    for member in (owner, *get_args(owner)):
        if hasattr(member, "model_fields"):
            return {field.alias or name: field.annotation for name, field in member.model_fields.items()}
        if hasattr(member, "__dataclass_fields__"):
            return params.hints(member)
    return {}
