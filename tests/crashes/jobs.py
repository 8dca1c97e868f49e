"""The jobs that are stopped: their commands, and what must be there before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.crashes import forks
from tests.crashes.boxes import Box, Tree
from tests.crashes.recorder import Down


@dataclass(frozen=True)
class Put:
    """A file of the setup."""

    name: str
    content: str


@dataclass(frozen=True)
class Run:
    """A command of the setup; `{root}` and `{out}` stand for the folders of the box."""

    arguments: tuple[str, ...]
    down_from: str | None = None
    """The store stops to answer with the first statement that holds this text."""


@dataclass(frozen=True)
class Job:
    """A command that is stopped, after its setup."""

    name: str
    arguments: tuple[str, ...]
    setup: tuple[Put | Run, ...] = ()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {_toml(inner)}' for key, inner in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def config(name: str, **sections: dict[str, Any]) -> Put:
    """Return a configuration on small generated data, with these sections in place of the usual ones."""
    data = {"name": "synthetic", "users": 300, "items": 80, "interactions": 6000, "binary": True}
    usual: dict[str, dict[str, Any]] = {
        "data": data,
        "split": {"kind": "hold_out_users", "n_users": 0.3, "stable": True},
        "model": {"name": "EASE", "regularization": 50.0},
        "train": {"metric": "ndcg@10"},
        "evaluate": {"metrics": ["ndcg@10", "recall@10"]},
        "track": {"experiment": "crashes", "register": "toy"},
        # Times of a few milliseconds vary by more than any limit on a busy machine, and so few users show little.
        "promote": {"slowdown": 1e6, "error_budget": 1.0, "guards": {"coverage@10": 0.5}},
    }
    lines = []
    for section, values in {**usual, **sections}.items():
        lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items() if key != "space")]
        if "space" in values:
            lines += [f"[{section}.space]", *(f"{key} = {_toml(value)}" for key, value in values["space"].items())]
    return Put(f"root/{name}.toml", "\n".join(lines) + "\n")


def _run(*arguments: str, down_from: str | None = None) -> Run:
    return Run(arguments, down_from)


NETWORK = {"name": "MultVAE", "hidden": 16, "latent": 4, "epochs": 3, "batch_size": 64, "patience": 2}
RATED = {"name": "IAutoRec", "hidden": 8, "epochs": 3, "batch_size": 16, "unobserved_weight": 0.3}
FILES = (
    config("ease"),
    config("weak", model={"name": "EASE", "regularization": 1e5}),
    config("other", track={"experiment": "before", "register": "other"}),
    config("net", model=NETWORK),
    config("popular", model={"name": "Popularity"}),
    config("refit", model=RATED, split={"kind": "hold_out_ratings"}, train={"metric": "ndcg@10", "refit": True}),
    config(
        "search",
        tune={"trials": 3, "sampler": "random", "prune": False, "space": {"regularization": [1.0, 10.0, 100.0, 500.0]}},
    ),
    config(
        "search-net",
        model={key: value for key, value in NETWORK.items() if key != "patience"},
        tune={"trials": 3, "sampler": "random", "prune": False, "space": {"latent": [2, 4, 8]}},
    ),
)
"""Configurations in the root."""
USED = (*FILES, _run("train", "{root}/other.toml", "--force"))
"""A root in which a model of another name was trained."""
WEAK = (*USED, _run("train", "{root}/weak.toml", "--force"))
NET = (*USED, _run("train", "{root}/net.toml", "--force"))
"""A network is registered."""
ONE = (*WEAK, _run("promote", "toy"))
"""A champion."""
TWO = (*ONE, _run("train", "{root}/ease.toml", "--force"))
"""A champion and a challenger."""
MOVED = (*TWO, _run("promote", "toy", "--reason", "better"))
"""The challenger is champion."""
LISTS = ("score", "models:/toy@champion", "--output", "{out}/lists", "--batch-size", "120")
NIGHT = ("nightly", "{root}/ease.toml", "--output", "{out}/tonight")

JOBS = {
    job.name: job
    for job in (
        Job("train-new", ("train", "{root}/ease.toml", "--force"), FILES),
        Job("train", ("train", "{root}/ease.toml", "--force"), USED),
        Job("train-net", ("train", "{root}/net.toml", "--force"), USED),
        Job("train-refit", ("train", "{root}/refit.toml", "--force"), USED),
        Job("score", LISTS, ONE),
        Job("score-over", LISTS, (*ONE, _run(*LISTS, "-n", "5"))),
        Job("promote", ("promote", "toy", "--version", "2", "--reason", "better"), TWO),
        Job("challenge", ("promote", "toy", "--challenger"), TWO),
        Job("rollback", ("rollback", "toy"), MOVED),
        Job("tune", ("tune", "{root}/search.toml", "--output", "{out}/best.toml"), USED),
        Job("tune-net", ("tune", "{root}/search-net.toml", "--output", "{out}/best.toml"), USED),
        Job(
            "compare",
            ("compare", "{root}/popular.toml", "{root}/search.toml", "--trials", "2", "--output", "{out}/compared"),
            USED,
        ),
        Job("nightly-new", NIGHT, USED),
        Job("nightly", (*NIGHT, "--set", "data.interactions=6200"), (*USED, _run(*NIGHT))),
        Job("export", ("export", "models:/toy@champion", "--onnx", "{out}/model.onnx"), ONE),
        Job("analyze", ("analyze", "models:/toy/1", "--output", "{out}/analyzed", "--what", "map"), NET),
        Job("prepare", ("prepare", "{root}/ease.toml", "--engine", "local", "--output", "{out}/shards"), FILES),
        Job("sync", ("sync",), (*USED, _run("train", "{root}/net.toml", "--force", down_from="INSERT INTO params"))),
        Job("sync-new", ("sync",), (*USED, _run("train", "{root}/ease.toml", "--force", down_from="INSERT INTO runs"))),
        Job(
            "prune",
            ("registry", "prune", "toy", "--keep", "1", "--yes"),
            (*MOVED, *[_run("train", "{root}/ease.toml", "--force")] * 3),
        ),
    )
}
"""By name."""


def arguments(box: Box, given: tuple[str, ...]) -> list[str]:
    """Return the arguments of a command in a box."""
    places = {"root": box.path / "root", "out": box.path / "out"}
    return [*(argument.format(**places) for argument in given), "--root", str(places["root"]), "--quiet"]


class Setups:
    """Boxes as setups leave them; what several jobs begin with is done once."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._done: dict[tuple[Put | Run, ...], Tree] = {}

    def tree(self, setup: tuple[Put | Run, ...]) -> Tree:
        """Return the contents of the box after a setup."""
        if setup not in self._done:
            if not setup:
                self.box.put_back({})
            else:
                self.box.put_back(self.tree(setup[:-1]))
                self._do(setup[-1])
            self._done[setup] = self.box.capture()
        return self._done[setup]

    def _do(self, part: Put | Run) -> None:
        if isinstance(part, Put):
            (self.box.path / part.name).write_text(part.content, encoding="utf-8")
            return
        down = None if part.down_from is None else Down(part.down_from)
        ended = forks.run(self.box, arguments(self.box, part.arguments), down)
        if ended.status:
            raise RuntimeError(f"the setup {' '.join(part.arguments)} ended with {ended.status}: {ended.err}")
