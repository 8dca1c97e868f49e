"""What the models with a network share: fitting through the one loop, scoring, embeddings, the bundle."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.devices import pick_device
from recsys.errors import ConfigError, UnsupportedError
from recsys.mapped import MappedMatrix, Matrix
from recsys.memory import Need
from recsys.models import leaning, spaces
from recsys.models.base import Recommender
from recsys.models.capabilities import REFUSALS, Capabilities
from recsys.models.codes import Doubles
from recsys.models.fitting import FitOptions, new_generator
from recsys.models.selection import ROW_BLOCK, Histories, Indices
from recsys.models.stored import Stored
from recsys.models.warm_start import checksum, take_weights
from recsys.nn.graphs import NetworkScores
from recsys.nn.paths import integrated_gradients, without_gradients
from recsys.nn.penalties import chance_decay
from recsys.nn.products import affine
from recsys.params import Count, NotNegative, Positive, Seed
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Objective, Record, TrainingConfig, train
from recsys.training.config import Precision, Schedule
from recsys.training.loop import Watch


@dataclass(kw_only=True, eq=False)
class Autoencoder(Recommender):
    """A recommender whose scores are `decode(encode(history)) @ output.weight.T + output.bias`.

    A model names its network (`_network`, see `recsys.nn.networks.Autoencoding`) and its loss (`_objective`, an
    `Alternation` where parts of the network follow losses of their own); everything else is here.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        trains_by_epochs=True, in_ranks=True, weighs_users=True, decodes=True, starts_from=True
    )
    search_space = spaces.NETWORK
    unit_ = 1.0
    """What the network's outputs are multiplied by to be scores."""
    leans = False
    """Whether the tables of items may lean on features in training (`models.leaning`)."""
    support = None
    """The features on which they lean in the next fit; `WithFeatures` sets it."""

    epochs: Count = 100
    """Passes over the training rows."""
    stop_after: Count | None = None
    """Epochs after which training stops, though everything that is a share of `epochs` (the schedule, annealing,
    pretraining) stays what it is in a training of all of them; None: all. `for_refit` sets the best epoch here."""
    batch_size: Count = 500
    """Rows per step."""
    learning_rate: Positive = 1e-3
    """Adam's step size."""
    weight_decay: NotNegative | None = 0.0
    """c of c/2 · Σ w² over all weight matrices, on the scale of the mean loss per row; None: as much as chance may give
    the weights (`recsys.nn.penalties.chance_decay`), which suits likelihoods of rows divided by their length."""
    schedule: Schedule = "constant"
    """`cosine` lowers the learning rate to zero over all epochs."""
    patience: Count | None = None
    """Epochs without a better validation metric after which training stops; None: never."""
    keep_users: bool = True
    """Keep ids and embeddings of the training users; without them the model knows nobody, and everyone is scored from
    a history."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:1`; `auto` takes CUDA where there is one."""
    precision: Precision = "float32"
    """`tf32` or `bfloat16` (dense hidden layers only) trade digits for speed on a GPU."""
    seed: Seed | np.random.Generator | None = 0
    """Seed of weights, order and noise; None for fresh entropy."""

    def _check_params(self) -> None:
        super()._check_params()
        if self.stop_after is not None and self.stop_after > self.epochs:
            raise ConfigError(f"stop_after must be at most epochs ({self.epochs}), got {self.stop_after}")
        if not self.keep_users and self.capabilities.scores_known_users:
            raise ConfigError(
                f"{type(self).__name__} scores its users by what it learned of each; leave out keep_users"
            )

    def _require(self, ability: str) -> None:
        super()._require(ability)
        if ability == "keeps_users" and not self.keep_users:
            raise UnsupportedError(f"this {type(self).__name__} {REFUSALS[ability]} (keep_users=False)")

    @abstractmethod
    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        """Return a new network (`Autoencoding`) over rows of `n_in` columns."""

    @abstractmethod
    def _objective(self, network: Any, rows: Rows) -> Objective | Alternation:
        """Return the loss of a batch of `rows`, or the turns that the network's parts take."""

    def _initialize(self, network: Any, rows: Rows) -> None:
        """Set starting values of a new network that depend on the data."""

    def _decay(self, rows: Rows) -> float:
        """Return the L2 coefficient on the scale of the mean loss per row."""
        return chance_decay(rows) if self.weight_decay is None else self.weight_decay

    def _refresh(self, rows: Rows) -> None:
        """Recompute what prediction needs besides the network, after an epoch that is to be measured and at the end."""

    def _memory(self, matrix: sp.csr_matrix) -> Need | None:
        try:
            with torch.device("meta"):  # shapes alone
                network = self._network(self._n_in(), torch.Generator("cpu"))
        except Exception:  # a network of your own may compute with its first weights
            return None
        moving = sum(weight.nbytes for weight in network.parameters() if weight.requires_grad)
        whole = sum(tensor.nbytes for tensor in network.state_dict().values())
        # The weights and the best so far, gradients and Adam's two moments, and the logits of a batch.
        logits = min(4 * self._logits(), _MOST_LOGITS)
        rows = 4 * self._dense_rows() * self._n_in()
        instead = "take narrower layers, or keep fewer items and users; ALS and ItemKNN need less"
        return Need(2 * whole + (3 + self._copies()) * moving + logits + rows, instead, kept=whole)

    def _copies(self) -> int:
        """Return how many arrays of the size of all weights a step makes beside weights, gradients and moments."""
        return 0

    def _logits(self) -> int:
        """Return how many logits a batch has."""
        return self.batch_size * self._n_in()

    def _dense_rows(self) -> int:
        """Return how many further rows of all columns a step makes, beside the logits of its batch."""
        return 0

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> Record:
        rows = self._training_rows(matrix)
        config = {field.name: getattr(self, field.name) for field in fields(TrainingConfig)}
        generator = new_generator(self.seed)
        network = self._network(rows.n_columns, generator)
        self._initialize(network, rows)
        if options.start is not None:
            take_weights(self, network, options.start)
        leaning.begin(network, self.support)
        self.network_: Any = network

        def on_epoch(entry: dict[str, float]) -> None:
            if options.callback:
                options.callback(int(entry["epoch"]) - 1, entry["seconds"], entry["loss"])
            if options.on_epoch:
                options.on_epoch(entry)

        watch = None
        if validation := options.validation:

            def measure() -> Mapping[str, float]:
                self._refresh(rows)
                self._check_finite(matrix)
                return validation(self)

            watch = Watch(measure, validation.metric, validation.higher_is_better)
        record = train(
            network,
            rows,
            self._objective(network, rows),
            TrainingConfig(**{**config, "weight_decay": self._decay(rows)}),
            generator=generator,
            watch=watch,
            on_epoch=on_epoch,
            show_progress=options.show_progress,
            checkpoint=options.checkpoint,
            row_weights=options.user_weights,
            identity={
                "model": type(self).__name__,
                # `auto` and `cuda` may be the same device: the loop tells kinds of devices apart.
                **{name: value for name, value in self.params().items() if name != "device"},
                **({} if options.start is None else {"start": checksum(options.start)}),
                **leaning.identity(self.support),
            },
        )
        leaning.end(self, network)
        self._refresh(rows)
        if self._keeps_embeddings():
            self._keep_users(rows)
        return record

    def _for_refit(self) -> Self:
        model = super()._for_refit()
        model.patience = None  # nothing is validated
        model.stop_after = self.record_.best_epoch or self.stop_after
        return model

    def _check_finite(self, matrix: sp.csr_matrix) -> None:
        super()._check_finite(matrix)
        some = np.flatnonzero(self.user_counts_)[:8]
        with torch.inference_mode():
            scores = self._scores(matrix[some], some, None, None)
        # Finite weights may be so large that their products are not. A model of one's own may never recommend an item.
        meant = torch.zeros_like(scores, dtype=torch.bool) if self._of_package() else scores == -torch.inf
        if not bool((scores.isfinite() | meant).all()):
            raise self._not_finite("gives scores that are NaN or infinite")

    def _steps_per_epoch(self, rows: Rows) -> int:
        return -(-len(rows) // self.batch_size)

    def reads_shards(self) -> bool:
        """True: batch by batch. One's own model may prepare its rows in a way that needs all of them."""
        return self._of_package()

    def _prepared(self, matrix: Matrix) -> Matrix:
        """Return the training histories as the network reads them, those on disk as they are read."""
        return matrix.through(self._prepare) if isinstance(matrix, MappedMatrix) else self._prepare(matrix)

    def _training_rows(self, matrix: Matrix) -> Rows:
        return Rows(self._prepared(matrix), pick_device(self.device))

    def _keeps_embeddings(self) -> bool:
        """Return whether the embeddings of the training users are kept, and not other vectors of them."""
        return self.capabilities.keeps_users and self.keep_users

    def _keep_users(self, rows: Rows) -> None:
        """Keep the embeddings of the training users, for `similar_users` and `recommend_users`."""
        self.embeddings_ = encode_rows(self.network_.encode, rows).cpu()

    @property
    def _device(self) -> torch.device:
        return torch.device(next(self.network_.parameters()).device)

    def _encode(self, histories: sp.csr_matrix) -> Tensor:
        return encode_rows(self.network_.encode, Rows(self._prepare(histories), self._device))

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        return self._decode_scores(self._codes(histories, userid), items, out)

    def _graph(self) -> nn.Module:
        return NetworkScores(self.network_)

    def _codes(self, histories: Histories, userid: Indices) -> Tensor:
        """Return the embeddings to decode: of the histories, or those kept of training users `userid`."""
        if histories is not None:
            return self._encode(histories)
        return self.embeddings_[torch.from_numpy(userid)].to(self._device)

    def _decode_scores(self, latent: Tensor, items: Indices | None, out: Tensor | None = None) -> Tensor:
        output = self.network_.output
        weight, bias = output.weight, output.bias
        if items is not None:
            index = torch.from_numpy(items).to(weight.device)
            weight, bias = weight[index], bias[index]
        return affine(self.network_.decode(latent), weight, bias, out=out)

    def _item_table(self) -> tuple[Tensor, Tensor] | None:
        cls, output = type(self), self.network_.output
        as_here = cls._scores is Autoencoder._scores and cls._decode_scores is Autoencoder._decode_scores
        return (output.weight, output.bias) if as_here else None

    def _queries(self, histories: sp.csr_matrix, userid: Indices) -> Tensor:
        hidden: Tensor = self.network_.decode(self._codes(histories, userid))
        return hidden

    def _path_scores(self, network: Any, batch: Batch, userid: Indices) -> Tensor:
        """Return the (len(batch), n_items) scores of prepared rows of one user, with gradients of their values."""
        scores: Tensor = NetworkScores(network)(batch)
        return scores.mul(self.unit_)

    def _gradients(self, history: sp.csr_matrix, userid: Indices, items: Indices) -> Doubles | None:
        if self.capabilities.new_users == "fold-in":
            return None  # its rows are items
        network, device = without_gradients(self.network_), self._device
        row = Rows(self._prepare(history), device).slice(0, 1)
        chosen = torch.from_numpy(items).to(device)
        found = integrated_gradients(lambda batch: self._path_scores(network, batch, userid), row, chosen)
        return found.cpu().numpy()

    def _decode(self, codes: Tensor) -> Tensor:
        return self._decode_scores(codes.to(self._device), None)

    def _posterior(self, histories: sp.csr_matrix) -> tuple[Tensor, Tensor]:
        rows = Rows(self._prepare(histories), self._device)
        mean, log_variance = encode_rows(lambda batch: torch.cat(self.network_.posterior(batch), 1), rows).chunk(2, 1)
        return mean, log_variance

    def _draw_posterior(self, histories: sp.csr_matrix, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        noise = new_generator(rng, self._device)

        def drawn(batch: Batch) -> Tensor:
            codes, log_density = self.network_.draw_posterior(batch, noise)
            return torch.cat([codes, log_density[:, None]], 1)  # float64: the codes are as they were

        both = encode_rows(drawn, Rows(self._prepare(histories), self._device))
        return both[:, :-1].float(), both[:, -1]

    def _draw_prior(self, n: int, rng: np.random.Generator) -> Tensor:
        codes: Tensor = self.network_.draw_prior(n, new_generator(rng, self._device))
        return codes

    def _log_prior(self, codes: Tensor) -> Tensor:
        log_density: Tensor = self.network_.log_prior(codes.to(self._device))
        return log_density

    def _user_vectors(self) -> Tensor:
        return self.embeddings_

    def _item_vectors(self) -> Tensor:
        vectors: Tensor = self.network_.output.weight
        return vectors

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays = {f"network.{name}": tensor.cpu().numpy() for name, tensor in self.network_.state_dict().items()}
        arrays |= leaning.arrays_of(self)
        return {**arrays, "embeddings": self.embeddings_.numpy()} if hasattr(self, "embeddings_") else arrays

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        network = arrays.network(lambda: self._network(self._n_in(), torch.Generator()))
        self.network_ = network.to(pick_device(self.device)).eval()
        leaning.restore(self, arrays)
        if self._keeps_embeddings():
            own = self._encode(sp.csr_matrix(np.zeros((1, self.n_items_), np.float32))).cpu().numpy()
            kept = arrays.array("embeddings", (self.n_users_, own.shape[1]), own.dtype)
            self.embeddings_ = torch.from_numpy(kept)

    def _n_in(self) -> int:
        """Return the columns of the rows that the network reads."""
        return self.n_items_


_MOST_LOGITS = 2**30
"""Bytes of dense rows beyond which the losses cut a batch into parts."""

GENERATES: Final = replace(Autoencoder.capabilities, generates=True, has_prior=True)
"""What autoencoders with a posterior and a prior of codes can do."""


def encode_rows(encode: Callable[[Batch], Tensor], rows: Rows) -> Tensor:
    """Return the (len(rows), d) embeddings of all rows, some at a time; no gradient is kept."""
    with torch.inference_mode():
        block = encode(rows.slice(0, ROW_BLOCK))  # even without rows: it tells the width
        if len(rows) <= ROW_BLOCK:
            return block
        codes = block.new_empty(len(rows), block.shape[1])  # filled in place: pieces to join would exist twice
        codes[:ROW_BLOCK] = block
        for start in range(ROW_BLOCK, len(rows), ROW_BLOCK):
            codes[start : start + ROW_BLOCK] = encode(rows.slice(start, start + ROW_BLOCK))
    return codes
