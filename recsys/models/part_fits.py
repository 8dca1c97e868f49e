"""The fits of a blend's parts, one after another: one record, and one checkpoint by which a killed fit goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from tqdm.auto import tqdm

from recsys.errors import DataError
from recsys.models.base import Recommender
from recsys.models.fitting import FitOptions
from recsys.models.parts import is_fitted, restored, stored
from recsys.models.stored import Stored
from recsys.sparse import Rows
from recsys.training import Record
from recsys.training.checkpoint import Checkpoint
from recsys.training.order import weights_checksum
from recsys.workspace import as_path


class PartFits:
    """Fits models for a blend that has its `n_users_`, `n_items_` and ids.

    The checkpoint holds the parts that were fitted; beside it lies that of the part in progress. So a fit that was
    killed goes on with that part, and where it stopped if that part trains by epochs.
    """

    def __init__(self, blend: Recommender, matrix: sp.csr_matrix, options: FitOptions) -> None:
        self.blend, self.matrix, self.options = blend, matrix, options
        self.record = Record(metric=options.validation.metric if options.validation else None)
        """The epochs of all parts, numbered through; `part` is the number of the part."""
        self._fitted: list[Recommender] = []
        self._checkpoint: Checkpoint | None = None
        self._earlier: list[Recommender] = []
        if options.checkpoint is not None:
            params = {name: value for name, value in blend.params().items() if name != "device"}
            facts = {"data": Rows(matrix).checksum(), "metric": self.record.metric}
            if options.user_weights is not None:
                facts["row_weights"] = weights_checksum(options.user_weights)
            self._checkpoint = Checkpoint(as_path(options.checkpoint), {"model": "Blend", **params, **facts})

    def run(self, models: Sequence[Recommender]) -> list[Recommender]:
        """Return the models, all fitted."""
        self._earlier = self._found()
        done = []
        hidden = not self.options.show_progress
        with tqdm(total=len(models), unit="part", desc="blend", disable=hidden) as bar:
            for place, model in enumerate(models):
                bar.set_postfix_str(type(model).__name__)
                done.append(self._same(model, place) if is_fitted(model) else self._fit(model, place))
                bar.update()
        return done

    def end(self, figures: Mapping[str, float]) -> Record:
        """Append the entry of the blend itself to the record, report it, and forget how to go on; return the record."""
        entry = {"epoch": len(self.record.epochs) + 1.0, **figures}
        self.record.epochs.append(entry)
        if self.options.validation:
            self.record.best_epoch = len(self.record.epochs)
        if self.options.callback:
            self.options.callback(len(self.record.epochs) - 1, figures["seconds"], None)
        if self.options.on_epoch:
            self.options.on_epoch(entry)
        if self._checkpoint:
            self._checkpoint.remove()
        return self.record

    def _fit(self, model: Recommender, place: int) -> Recommender:
        begun = len(self.record.epochs)

        def numbered(entry: Mapping[str, float]) -> dict[str, float]:
            return {**entry, "epoch": begun + entry["epoch"], "part": float(place)}

        if len(self._fitted) < len(self._earlier):
            model = self._earlier[len(self._fitted)]
            self._fitted.append(model)
        else:
            callback, on_epoch = self.options.callback, self.options.on_epoch
            model.fit(
                self._data(),
                self.options.show_progress,
                callback and (lambda number, *figures: callback(begun + number, *figures)),
                validation=self.options.validation,
                on_epoch=on_epoch and (lambda entry: on_epoch(numbered(entry))),
                checkpoint=self._beside() if model.capabilities.trains_by_epochs else None,
                user_weights=self.options.user_weights,
            )
            model.users_, model.items_, model.titles_ = self.blend.users_, self.blend.items_, self.blend.titles_
            self._fitted.append(model)
            self._keep()
        self.record.epochs += map(numbered, model.record_.epochs)
        return model

    def _data(self) -> Any:
        """Return what parts are fitted to: with columns of items or users, if there are any, which parts may read."""
        data = self.options.data
        return data if data is not None and (data.item_columns or data.user_columns) else self.matrix

    def _same(self, model: Recommender, place: int) -> Recommender:
        """Return a model that was fitted before; a DataError refuses one of other users or items."""
        for what in ("users", "items"):
            own, given = (getattr(one, f"n_{what}_") for one in (self.blend, model))
            ids, theirs = (getattr(one, f"{what}_") for one in (self.blend, model))
            if own != given or (ids is not None and theirs is not None and ids != theirs):
                raise DataError(
                    f"parts.{place} of Blend was fitted to {given:,} {what} and the matrix has {own:,}, or others; "
                    "a model that is fitted already must know the same users and items, in the same order"
                )
        return model

    def _beside(self) -> Any:
        path = self._checkpoint and self._checkpoint.path
        return path and path.with_name(f"{path.stem}-part{path.suffix}")

    def _keep(self) -> None:
        """Write the parts that are fitted to the checkpoint."""
        if self._checkpoint:
            arrays, rest = stored(self._fitted)
            whole = {name: np.require(array, requirements=["C", "W"]) for name, array in arrays.items()}
            self._checkpoint.write({name: torch.from_numpy(array) for name, array in whole.items()}, {"parts": rest})

    def _found(self) -> list[Recommender]:
        """Return the parts in the checkpoint; none where there is none, and a first one is written then."""
        found = self._checkpoint and self._checkpoint.read()
        if not found:
            self._keep()
            return []
        tensors, state = found
        arrays = Stored({name: tensor.numpy() for name, tensor in tensors.items()})
        return restored(self.blend, arrays, state["parts"])
