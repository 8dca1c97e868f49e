"""The configurations that come with the package: list them, or write one to change and train."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

import recsys
from recsys.errors import ConfigError, absent, did_you_mean
from recsys.workspace import Workspace, output_file

_PACKAGE: Final = Path(recsys.__file__).parent


def folder() -> Path:
    """Return the folder of the configurations: that of the wheel, or of the checkout from which the package runs."""
    inside = _PACKAGE / "templates"
    return inside if inside.is_dir() else _PACKAGE.parent / "pipelines" / "configs"


def names() -> dict[str, Path]:
    """Return the files of all configurations by name, such as `nightly` or `compare-ml1m-infae/als`."""
    root = folder()
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in sorted(root.rglob("*.toml"))}


def run(workspace: Workspace, *, name: str | None = None, output: Path | None = None) -> pd.DataFrame:
    """Print what configurations there are, or write the one that is named; return a table of `name, about`.

    Args:
        name: of a configuration; None lists them.
        output: file to write, a new one; the last part of NAME with `.toml` in the working folder by default.

    Raises:
        ConfigError: there is no such configuration, or the file exists.
    """
    found = names()
    if name is None:
        if output is not None:
            raise ConfigError("--output is for one template; name it: recsys templates NAME --output FILE")
        table = pd.DataFrame({"name": list(found), "about": [_about(file) for file in found.values()]})
        if workspace.in_words:
            for row in table.itertuples():
                print(f"{row.name:<36} {row.about}")
        return table
    name = name.removesuffix(".toml")
    if name not in found:
        raise absent(ConfigError(f"there is no template {name!r}{did_you_mean(name, found)}"))
    path = output or Path(f"{name.rpartition('/')[2]}.toml")
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path} exists and is not overwritten; name another file with --output, or remove it")
    output_file(path, "--output").write_bytes(found[name].read_bytes())
    print(f"written   {path}")
    return pd.DataFrame({"name": [name], "about": [_about(found[name])]})


def _about(file: Path) -> str:
    """Return the first sentence of a configuration's comment."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    text = " ".join(comment)
    return text.split(". ")[0].rstrip(".")
