"""The source of a user's own model: logged with the model, and imported from there when MLflow serves it."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from recsys.errors import BundleError
from recsys.models.registry import MODELS, register


def copy_source(cls: type, folder: Path) -> None:
    """Copy the module that defines a class into a folder from which it can be imported.

    A module in a package brings the `.py` files of its top-level package along. Nothing is copied for classes of
    recsys itself, or of a script or notebook.
    """
    names = cls.__module__.split(".")
    if names[0] in ("recsys", "__main__"):
        return
    try:
        file = Path(inspect.getfile(cls)).absolute()
    except (OSError, TypeError):  # typed at a prompt
        return
    if file.suffix != ".py" or not file.is_file():
        return
    module = file.parent if file.name == "__init__.py" else file
    top = module if len(names) == 1 else module.parents[len(names) - 2]
    for source in {file, *_sources(top)}:
        target = folder / source.relative_to(top.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def import_source(model: str | None, module: str | None, code: Path) -> None:
    """Import the module that defines a saved model's class, unless the class is registered already.

    Args:
        model: name of the class.
        module: its module; None in old bundles.
        code: folder of the code logged with the model; the module is imported from nowhere else.

    Raises:
        BundleError: the module was not logged, cannot be imported, or another module has its name.
    """
    if model is None or model in MODELS or module is None or module.startswith("recsys."):
        return
    if module == "__main__":
        raise BundleError(
            f"{model} was defined in a script or notebook, whose source is not logged with the model; "
            "move the class into a module of its own and log the model again"
        )
    top = module.partition(".")[0]
    if PathFinder.find_spec(top, [str(code)]) is None:
        raise BundleError(
            f"{code} does not hold {module}, which defines {model}; log the model again from a module "
            "whose source is a file, or import the module first"
        )
    if top in sys.modules and code.resolve() not in _origin(sys.modules[top]).parents:
        raise BundleError(
            f"another module {top} is imported already, from {_origin(sys.modules[top])}; load the model in a process "
            "of its own"
        )
    sys.path.insert(0, str(code))
    try:
        imported = import_module(module)
    except ImportError as error:
        raise BundleError(
            f"{module}, which was logged with the model, cannot be imported: {error}; "
            "it may import installed libraries and modules of its own package"
        ) from error
    finally:
        sys.path.remove(str(code))
    if model not in MODELS and hasattr(imported, model):
        register(getattr(imported, model))


def _origin(module: ModuleType) -> Path:
    return Path(module.__file__ or next(iter(module.__path__))).resolve()


def _sources(path: Path) -> Iterator[Path]:
    """Yield a module's file, or the `.py` files of a package and its subpackages."""
    if path.is_file():
        yield path
        return
    yield from path.glob("*.py")
    for folder in path.iterdir():
        if (folder / "__init__.py").is_file():
            yield from _sources(folder)
