"""A bundle as MLflow serves it: what a request may hold, what the answer holds, and how it is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, pairwise
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.columns import USER
from recsys.errors import BundleError, DataError, RecsysError
from recsys.ids import IdMap
from recsys.models import load as load_bundle
from recsys.tracking._mlflow import (
    AnyType,
    Array,
    ColSpec,
    DataType,
    MlflowException,
    ModelSignature,
    ParamSchema,
    ParamSpec,
    PythonModel,
    Schema,
    mlflow,
)

BUNDLE = "bundle"
"""Name of the bundle among the artifacts of a logged model."""
PARAMS: dict[str, Any] = {"n": 10, "exclude_seen": True, "items": []}
"""Parameters of a request, with their defaults."""
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")


class RecommendationModel(PythonModel):  # type: ignore[misc]
    """A bundle served by MLflow: a table of histories in, a table of recommendations out, one row per user.

    Input columns: `user_id`; `items`, the list of items of the user's history; `ratings`, their values, for models of
    ratings only (elsewhere each item counts 1). Ids are text, integers written plainly. Items that the model does not
    know are left out: no model can read them. Of an item listed twice, the last counts. Users unknown to the model are
    served from their history.

    Output columns: `user_id`, `items` and `scores`, best first; lists are shorter than `n` where candidates run out.

    What is wrong with a request is an MlflowException of code INVALID_PARAMETER_VALUE, which MLflow's server answers by
    400 with the reason. Columns and parameters beyond the signature's MLflow itself leaves out, with a warning.
    """

    def load_context(self, context: Any) -> None:
        """Read the bundle.

        Raises:
            BundleError: it is damaged, holds no ids, or a pickle was put beside it.
        """
        bundle = Path(context.artifacts[BUNDLE])
        refuse_pickles(bundle.parents[1])
        self._model = load_bundle(bundle)
        users, items = self._model.users_, self._model.items_
        if users is None or items is None:
            raise BundleError(f"{bundle} holds no ids; log models fitted on Interactions")
        # An IdMap makes an index of what it is asked, which costs more than the few look-ups of a request.
        self._users, self._items = ({str(id_): code for code, id_ in enumerate(ids)} for ids in (users, items))
        self._names = np.fromiter(self._items, dtype=object, count=len(self._items))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the recommendations of each row's history.

        Args:
            params: `n`, the length of the lists (10); `exclude_seen`, never to return an item of the history (True);
                `items`, to rank only these, of which unknown ones are left out ([]: all items).

        Raises:
            MlflowException: the request is wrong; INVALID_PARAMETER_VALUE.
        """
        try:
            return self._recommend(model_input, {**PARAMS, **(params or {})})
        except RecsysError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _recommend(self, asked: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        n = params["n"]
        if not isinstance(n, Integral) or n < 1:
            raise DataError(f"n must be a whole number of at least 1, got {n!r}")
        if not isinstance(params["exclude_seen"], bool):
            raise DataError(f"exclude_seen must be true or false, got {params['exclude_seen']!r}")
        among = None
        if len(params["items"]):
            codes = (self._items.get(item, -1) for item in _texts(params["items"], "the parameter items"))
            among = np.unique([code for code in codes if code >= 0]).astype(np.int64)
        users = _texts(asked[USER], USER)
        ids, scores = self._model.recommend(
            np.array([self._users.get(user, -1) for user in users], dtype=np.int64),
            self._histories(asked),
            N=min(int(n), len(self._items)),
            filter_already_liked_items=params["exclude_seen"],
            items=among,
        )
        lengths = (ids >= 0).sum(axis=1)
        return pd.DataFrame(
            {
                USER: users,
                "items": [self._names[row[:n]].tolist() for row, n in zip(ids, lengths, strict=True)],
                "scores": [row[:n].tolist() for row, n in zip(scores, lengths, strict=True)],
            }
        )

    def _histories(self, frame: pd.DataFrame) -> sp.csr_matrix:
        lists = [list(items) for items in frame["items"]]
        flat = _texts(chain.from_iterable(lists), "items")
        codes = np.array([self._items.get(item, -1) for item in flat], dtype=np.int64)
        rows = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
        values = np.ones(len(codes), dtype=np.float32)
        if "ratings" in frame:
            ratings = [[] if row is None else list(row) for row in frame["ratings"]]
            if [len(row) for row in ratings] != [len(items) for items in lists]:
                raise DataError("each row must hold as many ratings as items")
            values = _numbers(chain.from_iterable(ratings))
        known = codes >= 0
        rows, codes, values = rows[known], codes[known], values[known]
        cell = rows * len(self._items) + codes
        # The first of the reversed order is the last that was listed.
        picked = len(cell) - 1 - np.unique(cell[::-1], return_index=True)[1]
        indptr = np.append(0, np.cumsum(np.bincount(rows[picked], minlength=len(lists))))
        shape = len(lists), len(self._items)
        return sp.csr_matrix((values[picked], codes[picked].astype(np.int32), indptr), shape=shape)


def signature(rated: bool) -> ModelSignature:
    """Return what `RecommendationModel` takes and gives; `rated` histories have a column of ratings."""
    columns = [ColSpec(DataType.string, USER), ColSpec(Array(DataType.string), "items")]
    if rated:
        # Of doubles MLflow would refuse [5], which is how JSON often has [5.0]; the model looks at the values itself.
        columns.append(ColSpec(Array(AnyType()), "ratings"))
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema(
            [
                ColSpec(DataType.string, USER),
                ColSpec(Array(DataType.string), "items"),
                ColSpec(Array(DataType.float), "scores"),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("n", DataType.long, PARAMS["n"]),
                ParamSpec("exclude_seen", DataType.boolean, PARAMS["exclude_seen"]),
                ParamSpec("items", DataType.string, PARAMS["items"], shape=(-1,)),
            ]
        ),
    )


def example(histories: sp.csr_matrix, users: npt.NDArray[Any], items: IdMap, rated: bool) -> pd.DataFrame:
    """Return histories as a request holds them."""
    rows = [slice(start, stop) for start, stop in pairwise(histories.indptr)]
    frame = pd.DataFrame(
        {
            USER: [str(user) for user in users],
            "items": [[str(item) for item in items.ids(histories.indices[row])] for row in rows],
        }
    )
    if rated:
        frame["ratings"] = [histories.data[row].tolist() for row in rows]
    return frame


def refuse_pickles(folder: Path) -> None:
    """Refuse the folder of a logged model into which a pickle was put: none is ever logged.

    Raises:
        BundleError: there is one.
    """
    found = [file.name for file in sorted(folder.iterdir()) if file.suffix in _PICKLES]
    if found:
        raise BundleError(
            f"{folder} holds {', '.join(found)}: models are logged without pickles, so it was put there later; "
            "it was not read, and neither was the model"
        )


def set_pyfunc_model() -> None:
    """Hand `RecommendationModel` to MLflow, which runs `pyfunc_model.py` to find the model."""
    mlflow.models.set_model(RecommendationModel())


def _texts(values: Iterable[Any], what: str) -> list[str]:
    texts = list(values)
    for value in texts:
        if not isinstance(value, str):
            raise DataError(f"{what} must be text, integers written plainly such as '42', got {value!r}")
    return texts


def _numbers(values: Iterable[Any]) -> npt.NDArray[np.float32]:
    numbers = list(values)
    largest = np.finfo(np.float32).max
    for value in numbers:
        numeric = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not numeric or not abs(value) <= largest:
            raise DataError(f"ratings must be finite numbers, got {value!r}")
    return np.asarray(numbers, dtype=np.float32)
