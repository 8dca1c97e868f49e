"""What models can do, in README.md and docs/models.md, and their names for type checkers, from their declarations."""

from __future__ import annotations

import inspect
from dataclasses import fields
from itertools import groupby
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from recsys.models import MODELS, Capabilities, Recommender
from recsys.models.spaces import shown, space_of

ROOT = Path(__file__).parents[2]
YES, NO, LEFT_OUT = "yes", "–", "leave-one-out"


def abilities(cls: type[Recommender]) -> tuple[str, ...]:
    """Return the cells of a model's row."""
    can: Capabilities = cls.capabilities
    if not isinstance(inspect.getattr_static(cls, "capabilities"), Capabilities):  # it follows from what it is made of
        if "parts" not in {field.name for field in fields(cls)}:
            inner = "if its model does"
            return (NO, YES, "as its model does", inner, NO, NO, inner, inner, inner, inner, NO)
        everything, some = "if all parts do", "if a part does"
        return (everything, YES, "as its parts do", NO, NO, NO, LEFT_OUT, some, NO, everything, everything)
    ranking = "yes" if can.ranks_with is None else f"with `{can.ranks_with}` > 0"
    new_users = "folded in" if can.new_users == "fold-in" else "from their history"
    new_users = new_users if can.personal else "the same list"
    said = can.compares_items, can.keeps_users, can.weighs_users, not can.no_graph
    ratings, embeddings, scores, *others = (YES if yes else NO for yes in (can.rates, can.encodes, can.decodes, *said))
    generates = (YES if can.has_prior else "given a history") if can.generates else NO
    exact = cls._contributions is not Recommender._contributions
    reasons = ("exact" if exact else LEFT_OUT) if can.explains else NO
    return (ratings, ranking, new_users, embeddings, scores, generates, reasons, *others)


def table() -> str:
    """Return one row for all models that can do the same."""
    lines = [
        "| models | ratings | ranking | new users | `encode` | `decode` | generates | `explain` | `similar_items` "
        "| keeps its users | weights | ONNX |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = list(MODELS)
    rows = sorted(MODELS, key=lambda name: (abilities(MODELS[name]), order.index(name)))
    groups = [(cells, list(names)) for cells, names in groupby(rows, key=lambda name: abilities(MODELS[name]))]
    for cells, names in sorted(groups, key=lambda group: order.index(group[1][0])):
        lines.append(f"| {', '.join(f'`{name}`' for name in names)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def needs() -> str:
    """Return the GiB that a fit takes at its peak, with default hyperparameters, one row for all that take the same."""
    catalogs = {f"{n:,} items": _history(100_000, n, 50) for n in (20_000, 60_000, 500_000)}
    lines = [f"| models | {' | '.join(catalogs)} |", f"|---|{'--:|' * len(catalogs)}"]
    found: dict[tuple[str, ...], list[str]] = {}
    for name, cls in MODELS.items():
        model = cls()
        if hasattr(model, "device"):
            model.set_params(device="cpu")
        needed = [model.memory_needed(matrix) for matrix in catalogs.values()]
        found.setdefault(tuple("–" if n is None else f"{n.bytes / 2**30:,.1f}" for n in needed), []).append(f"`{name}`")
    lines += [f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in found.items()]
    return "\n".join(lines)


def _history(n_users: int, n_items: int, each: int) -> sp.csr_matrix:
    """Return histories in which the item at place p of the catalog occurs as 1 / p, roughly."""
    places = np.exp(np.random.default_rng(0).random(n_users * each) * np.log(n_items))
    columns = np.minimum(places.astype(np.int32) - 1, n_items - 1)
    matrix = sp.csr_matrix(
        (np.ones(len(columns), np.float32), columns, np.arange(0, len(columns) + 1, each)), shape=(n_users, n_items)
    )
    matrix.sum_duplicates()
    return matrix


def spaces() -> str:
    """Return the space of each model that a search tries where a configuration names none, one row for equal ones."""
    lines = ["| models | searched |", "|---|---|"]
    found: dict[str, list[str]] = {}
    for name, cls in MODELS.items():
        cells = "; ".join(f"`{knob}` {shown(values)}" for knob, values in space_of(cls).items()) or "–"
        found.setdefault(cells, []).append(f"`{name}`")
    return "\n".join([*lines, *(f"| {', '.join(names)} | {cells} |" for cells, names in found.items())])


def imports(indent: str, home: str | None = None) -> str:
    """Return the imports by which type checkers know the package's models, each from its own module by default."""
    found = sorted((cls.__module__, name) for name, cls in MODELS.items() if cls.__module__.startswith("recsys."))
    return "\n".join(f"{indent}from {home or module} import {name} as {name}" for module, name in found)


def filled(text: str, opening: str, closing: str, content: str) -> str:
    """Return a text with what lies between two marker lines replaced."""
    before, _, rest = text.partition(opening)
    _, marker, after = rest.partition(closing)
    if not marker:
        raise ValueError(f"there is no {opening!r} followed by {closing!r}")
    return f"{before}{opening}\n{content}\n{closing}{after}"


def pages() -> dict[Path, str]:
    """Return the content of each file that is made of the declarations."""
    marked = ("<!-- models: made by make docs -->", "<!-- /models -->")
    made = {page: (*marked, table()) for page in (ROOT / "README.md", ROOT / "docs" / "models.md")}
    names = ("    # Names for type checkers, made by make docs.", "    # End of the names.")
    made[ROOT / "recsys" / "models" / "__init__.py"] = (*names, imports("    "))
    names = ("# Models, made by make docs.", "# End of the models.")
    made[ROOT / "recsys" / "__init__.pyi"] = (*names, imports("", "recsys.models"))
    texts = {page: filled(page.read_text(encoding="utf-8"), *parts) for page, parts in made.items()}
    page = ROOT / "docs" / "models.md"
    for part, made_of in (("memory", needs), ("spaces", spaces)):
        texts[page] = filled(texts[page], f"<!-- {part}: made by make docs -->", f"<!-- /{part} -->", made_of())
    return texts
