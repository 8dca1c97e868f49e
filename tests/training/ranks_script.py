"""What each process of `test_ranks` does: fits with the others beside fits alone, as JSON in a file.

python -m tests.training.ranks_script FILE [--all], with the environment that torchrun gives.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import recsys
from recsys import ranks
from recsys.errors import TrainingError
from recsys.evaluation import Validation
from recsys.models import MODELS, Recommender
from recsys.scoring.local import model_checksum
from recsys.training import loop
from tests.contract import CASES, interrupt, quick, ratings
from tests.verbs import interactions

MATRIX = ratings(31, 15, density=0.3)
"""In batches of 10 the last has one row: one of two processes gets none of it."""
COMMON: dict[str, Any] = {"epochs": 2, "batch_size": 10, "dropout": 0.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "SparseAE, KL": ("SparseAE", {"penalty": "kl", "activation": "sigmoid", "sparsity": 0.5}),
    "FLVAE": ("FLVAE", {"halves": False}),
    "VASP": ("VASP", {"halves": False}),
    "RecVAE": ("RecVAE", {"epochs": 4}),
    "GLocalK": ("GLocalK", {"pretrain_epochs": 2}),
    "MultVAE, negatives": ("MultVAE", {"negatives": 4, "weight_decay": 0.01}),
    "MultVAE, validation": ("MultVAE", {"weight_decay": 0.01, "patience": 2, "epochs": 4}),
}


QUICK = (
    "UAutoRec",
    "IAutoRec",
    "ELSA",
    "RecVAE",
    "SparseAE, KL",
    "ClusteringAE",
    "MultVAE, negatives",
    "MultVAE, validation",
)


def models(everything: bool) -> Iterator[tuple[str, Recommender]]:
    """Every class that says that it can, in each form of its loss; or one of each kind of loss."""
    names = [name for name, cls in MODELS.items() if cls.capabilities.in_ranks]
    for title, (name, changes) in {**{name: (name, {}) for name in names}, **VARIANTS}.items():
        if not everything and title not in QUICK:
            continue
        cls = MODELS[name]
        own = {key: value for key, value in COMMON.items() if key in cls.__dataclass_fields__}
        yield title, cls(**{**CASES[name], **quick(cls), **own, **changes})


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Let every draw of a step be its mean, whoever draws it: weights and orders are drawn as ever."""
    drawers = torch.randn, torch.rand, torch.randint, torch.Tensor.exponential_, loop._Run.train_epoch

    def quiet(run: Any) -> Any:
        torch.randn = lambda *shape, generator=None, **kind: torch.zeros(*shape, **kind)  # type: ignore[assignment]
        torch.rand = lambda *shape, generator=None, **kind: torch.full(  # type: ignore[assignment]
            shape[0] if isinstance(shape[0], tuple) else shape, 0.5, **kind
        )
        torch.randint = lambda high, shape, generator=None, **kind: torch.zeros(shape, **kind)
        torch.Tensor.exponential_ = lambda self, *_, **__: self.fill_(1.0)  # type: ignore[assignment]
        try:
            return drawers[-1](run)
        finally:
            torch.randn, torch.rand, torch.randint, torch.Tensor.exponential_ = drawers[:-1]

    loop._Run.train_epoch = quiet  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop._Run.train_epoch = drawers[-1]  # type: ignore[method-assign]


def difference(left: Recommender, right: Recommender) -> float:
    """The largest difference of a learned array, relative to its largest value."""
    pairs = [(value, right.learned_arrays()[name]) for name, value in left.learned_arrays().items()]
    return max(float(np.abs(a - b).max() / max(1e-12, np.abs(a).max())) for a, b in pairs if a.dtype.kind == "f")


def agree(model: Recommender) -> None:
    """Raise if the processes have other weights than each other."""
    ranks.check_same("weights", model_checksum(model))


def equal_to_one_process(everything: bool) -> dict[str, Any]:
    """Weights and losses after a few epochs without noise, beside those of one process."""
    found = {}
    data = interactions(MATRIX)
    part = recsys.splits.hold_out_ratings(data, test=0.2, validation=0.2)
    watched = {"validation": Validation(part.validation, "ndcg@5")}
    with without_noise():
        for title, model in models(everything):
            options = watched if title == "MultVAE, validation" else {}
            matrix = part.train if options else MATRIX
            with ranks.alone():
                alone = model.fit(matrix, False, **options)
                alone = type(model)._from_bundle(alone.to_bundle(), title)
                alone.record_ = model.record_
            losses = [entry["loss"] for entry in alone.record_.epochs]
            together = model.fit(matrix, False, **options)
            agree(together)
            same = np.allclose(losses, [entry["loss"] for entry in together.record_.epochs], rtol=1e-4)
            best = alone.record_.best_epoch == together.record_.best_epoch
            found[title] = {"difference": difference(alone, together), "losses": bool(same), "best": best}
    return found


def continued(folder: Path) -> dict[str, float]:
    """An interrupted training of several, continued by several and by one."""
    found = {}
    options = {**CASES["MultVAE"], "epochs": 4, "batch_size": 10, "dropout": 0.5}
    make = lambda: recsys.MultVAE(**options)  # noqa: E731
    whole, file, first = make().fit(MATRIX, False), folder / "several", ranks.first()
    interrupt(make(), MATRIX, file, epoch=2)
    found["by several, with noise"] = difference(whole, make().fit(MATRIX, False, checkpoint=file))
    with without_noise():
        whole = make().fit(MATRIX, False)
        interrupt(make(), MATRIX, file, epoch=2)
        with ranks.alone():
            if first:
                found["by one, without noise"] = difference(whole, make().fit(MATRIX, False, checkpoint=file))
    return found


def refused() -> str:
    """What is said where the processes have other data."""
    try:
        recsys.MultVAE(epochs=1).fit(MATRIX[: 20 + ranks.number()], False)
    except TrainingError as error:
        return str(error)
    return ""


def main(file: Path, everything: bool) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    with ranks.joined():
        found = {"equal": equal_to_one_process(everything), "continued": continued(file.parent), "refused": refused()}
        found["sums"] = [ranks.totals([1.0, ranks.number()]), ranks.from_first(lambda: {"é": [ranks.number(), None]})]
        first = ranks.first()
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if left := [name for name in threads if "gloo" in name]:
        raise RuntimeError(f"threads of the group are left, and can abort the interpreter's end: {left}")
    if first:
        file.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--all" in sys.argv[2:])
