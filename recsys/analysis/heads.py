"""A classification head on an encoder, trained in the one loop: fine-tuned, or beside the model's own loss."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.devices import pick_device
from recsys.errors import UnsupportedError
from recsys.models import Autoencoder, Recommender
from recsys.nn.networks import Autoencoding
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Loss, Objective, TrainingConfig, train

STEPS: Final = 100
"""Steps of a training, but of 5 epochs at least."""
BATCH: Final = {"fine-tuned": 100, "joint": 250}
LEARNING_RATE: Final = 1e-3

Probabilities = npt.NDArray[np.float64]
Affine = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Weight (classes, d) and bias (classes,) of a map from codes to logits."""


class Headed(nn.Module):
    """A network of a model and an affine layer from its code to the logits of classes."""

    def __init__(self, network: Autoencoding, head: Affine) -> None:
        super().__init__()
        self.network = network
        weight, bias = (torch.from_numpy(part).float() for part in head)
        self.head = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.head.weight, self.head.bias = nn.Parameter(weight), nn.Parameter(bias)

    def logits(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return the (len(batch), classes) logits; `noise` draws the network's input dropout."""
        found: Tensor = self.head(self.network.encode(batch, noise))
        return found


def classification(headed: Headed, labels: Tensor, weights: Tensor) -> Objective:
    """Return the weighted cross-entropy of the labeled rows of a batch, summed.

    Args:
        labels: (n_rows,) int64 class of each row of the training, -1 without one.
        weights: (classes,) weight of a row of each class.
    """

    def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
        own = labels[batch.rows]
        marked = own >= 0
        entropy = F.cross_entropy(headed.logits(batch, noise)[marked], own[marked], weights, reduction="sum")
        return Loss(entropy, len(batch))

    return objective


def beside(own: Objective, head: Objective, rows: Rows, weight: float, labeled: int) -> Objective:
    """Return the model's loss per entry plus `weight` times the head's per labeled row, each as a mean over rows."""
    per_entry = len(rows) / max(1.0, abs(rows.total()))
    per_label = weight * len(rows) / labeled

    def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
        reconstruction, entropy = own(batch, step, noise), head(batch, step, noise)
        parts = {"reconstruction": reconstruction.total, "entropy": entropy.total}
        return Loss(per_entry * reconstruction.total + per_label * entropy.total, len(batch), parts)

    return objective


def trained(
    model: Autoencoder,
    rows: sp.csr_matrix,
    labels: npt.NDArray[np.int64],
    head: Affine,
    *,
    setting: float,
    joint: bool,
    seed: int,
) -> Headed:
    """Return the model's network, from its learned weights on, with a head trained with it.

    Fine-tuned: the labeled rows alone, cross-entropy and `setting` as weight decay. Joint: all rows, the model's own
    loss, and `setting` times the cross-entropy (see `beside`). Classes count the same, however many rows they have.
    The head begins as one for the codes as they are, so that what it has yet to learn does not distort them (Kumar,
    Raghunathan, Jones, Ma and Liang 2022).

    Args:
        rows: (n, n_items) histories.
        labels: (n,) class of each, -1 without one.
        head: what the head begins as.
    """
    kind = "joint" if joint else "fine-tuned"
    if not joint:
        rows, labels = rows[labels >= 0], labels[labels >= 0]
    cut = Rows(model._prepare(rows), pick_device(model.device))
    generator = torch.Generator().manual_seed(seed)
    network: Any = model._network(cut.n_columns, generator)
    network.load_state_dict(model.network_.state_dict())
    headed, classes = Headed(network, head).to(cut.device), len(head[1])
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    weights = torch.from_numpy(counts.sum() / (classes * np.maximum(counts, 1))).float().to(cut.device)
    objective = classification(headed, torch.from_numpy(labels).to(cut.device), weights)
    if joint:
        own = model._objective(network, cut)
        assert not isinstance(own, Alternation)  # `check` has refused it
        objective = beside(own, objective, cut, setting, int(counts.sum()))
    decay = model._decay(cut) * len(cut) / max(1.0, abs(cut.total())) if joint else setting
    size = min(BATCH[kind], len(cut))
    config = TrainingConfig(
        epochs=max(5, math.ceil(STEPS / math.ceil(len(cut) / size))),
        batch_size=size,
        learning_rate=LEARNING_RATE,
        weight_decay=decay,
        schedule="cosine",
    )
    train(headed, cut, objective, config, generator=generator)
    return headed


def predicted(headed: Headed, model: Autoencoder, rows: sp.csr_matrix) -> Probabilities:
    """Return the (n_rows, classes) probabilities of classes."""
    from recsys.models.autoencoder import encode_rows

    cut = Rows(model._prepare(rows), next(headed.parameters()).device)
    logits = encode_rows(lambda batch: headed.logits(batch), cut)
    return torch.softmax(logits.double(), 1).cpu().numpy()


def check(model: Recommender, joint: bool) -> Autoencoder:
    """Return the model if a head can be trained on its network.

    Raises:
        UnsupportedError: no autoencoder of users' rows, a vector per user in its network, or (joint) a loss that its
            parts follow in turns.
    """
    use = "use MultDAE, MultVAE or BottleneckAE, or methods=('raw', 'frozen')"
    name = type(model).__name__
    if not isinstance(model, Autoencoder) or not model.capabilities.encodes or model._n_in() != model.n_items_:
        raise UnsupportedError(f"{name} has no encoder of users' rows to train a head on; {use}")
    if model.capabilities.scores_known_users:
        raise UnsupportedError(f"{name} learns a vector of each training user beside its encoder; {use}")
    probe = sp.csr_matrix(np.zeros((1, model.n_items_), np.float32))
    if joint and isinstance(model._objective(model.network_, Rows(probe, model._device)), Alternation):
        raise UnsupportedError(f"parts of the network of {name} take turns, beside which no head can be trained; {use}")
    return model
