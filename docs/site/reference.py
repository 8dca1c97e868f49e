"""The reference: a page for each group of public names of `recsys/__init__.pyi`, filled from their docstrings."""

from __future__ import annotations

import ast
import inspect
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import recsys
from docs.site.docstrings import converted
from docs.site.pages import ROOT, tree
from recsys.models import MODELS

GROUPS = {
    "data": ("Data", ("Interactions", "IdMap", "Features", "describe", "DataReport", "leaks", "Workspace")),
    "lists": (
        "Lists as frames",
        (
            "recommend_frame",
            "recommend_users_frame",
            "similar_items_frame",
            "similar_users_frame",
            "explain_frame",
            "score",
            "Rules",
        ),
    ),
    "evaluation": (
        "Evaluation",
        (
            "evaluate",
            "Evaluation",
            "Validation",
            "Split",
            "Part",
            "intervals",
            "compare",
            "Comparison",
            "activity_groups",
            "cold_user_curve",
        ),
    ),
    "recommender": ("What every model can", ("Recommender", "load")),
}
"""Pages of names that are no modules and no models: by their place, title and names."""


def public() -> list[str]:
    """Return the public names, as `recsys/__init__.pyi` declares them."""
    parsed = ast.parse((ROOT / "recsys/__init__.pyi").read_text(encoding="utf-8"))
    return [
        alias.asname or alias.name for node in parsed.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]


def members(module: ModuleType) -> list[str]:
    """Return what a public module offers: its `__all__`, or the functions and classes that it defines.

    Names that `recsys` itself has are left out, as they stand on pages of their own.
    """
    if hasattr(module, "__all__"):
        own = {id(getattr(recsys, name)) for name in public()}
        return [name for name in module.__all__ if id(getattr(module, name)) not in own]
    found = vars(module).items()
    mine = (inspect.isfunction, inspect.isclass)
    return [
        name
        for name, value in found
        if not name.startswith("_") and any(is_a(value) for is_a in mine) and value.__module__ == module.__name__
    ]


def directive(kind: str, name: str, *options: str) -> list[str]:
    """Return a directive of autodoc, which is written in reStructuredText."""
    return ["```{eval-rst}", f".. {kind}:: {name}", *(f"   {option}" for option in options), "```", ""]


def entry(owner: str, name: str, value: object) -> list[str]:
    """Return what shows one name with its docstring, and with the methods of a class."""
    if inspect.ismodule(value):
        return directive("automodule", value.__name__, ":members:")
    if inspect.isclass(value):
        return directive("autoclass", f"{owner}.{name}", ":members:")
    if callable(value):
        return directive("autofunction", f"{owner}.{name}")
    return ["```{eval-rst}", f".. py:data:: {owner}.{name}", "", f"   {said_of(name, value)}", "```", ""]


def said_of(name: str, value: object) -> str:
    """Return what the source says of a constant, in the text that follows the line which defines it."""
    for module in [module for key, module in sorted(sys.modules.items()) if key.startswith("recsys.")]:
        if vars(module).get(name) is value:
            body = ast.parse(inspect.getsource(module)).body
            for line, text in pairwise(body):
                target = line.target if isinstance(line, ast.AnnAssign) else getattr(line, "targets", [None])[0]
                if isinstance(target, ast.Name) and target.id == name:
                    said = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
                    return " ".join(converted(str(text.value.value).split("\n"))) if said else ""  # type: ignore[attr-defined]
    return ""


def pages() -> dict[str, str]:
    """Return the pages of the reference by their place below `reference/`.

    Raises:
        ValueError: a public name has no page.
    """
    names = public()
    modules = [name for name in names if inspect.ismodule(getattr(recsys, name))]
    models = [name for name in names if name in MODELS]
    known = [*modules, *models, *(name for _, group in GROUPS.values() for name in group)]
    if sorted(known) != sorted(names):
        raise ValueError(f"public names and the pages of the reference differ: {sorted(set(known) ^ set(names))}")
    made = {}
    for place, (title, group) in GROUPS.items():
        made[place] = [
            f"# {title}",
            "",
            *(line for name in group for line in entry("recsys", name, getattr(recsys, name))),
        ]
    for name in modules:
        module = getattr(recsys, name)
        made[name] = [f"# recsys.{name}", "", *directive("automodule", module.__name__)]
        for member in members(module):
            made[name] += entry(module.__name__, member, getattr(module, member))
    for name in models:
        made[f"models/{name}"] = [f"# {name}", "", *directive("autoclass", f"recsys.{name}")]
    made["models/index"] = [
        "# Models",
        "",
        "What each is for stands in the [guide](../../guides/models.md), what all can do under",
        "[Recommender](../recommender.md). A page here has a model's objective, its source, how it differs from the",
        "paper, and its hyperparameters.",
        tree(models),
    ]
    entries = [*list(GROUPS)[:3], "recommender", "models/index", *modules]
    made["index"] = ["# Reference", "", "Every public name, from its docstring.", tree(entries)]
    return {f"reference/{place}.md": "\n".join(lines) for place, lines in made.items()}


def written(folder: Path) -> None:
    """Write the reference below a folder."""
    for place, text in pages().items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
