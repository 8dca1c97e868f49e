"""How MLflow serves a bundle: the form of requests and answers, and the computation between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.machinery import PathFinder
from itertools import chain
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.artifacts import read_config
from recsys.columns import ITEM, RATING, SOURCE, USER
from recsys.datasets import read_items
from recsys.errors import BundleError, DataError, RecsysError, warn
from recsys.matching import FEW_KNOWN
from recsys.models import load as load_bundle
from recsys.models.parts import classes_in
from recsys.models.registry import MODELS, register
from recsys.models.saved import BUNDLE, refuse_pickles
from recsys.models.sources import popular_lists, sources_of
from recsys.rules import BoundRules, Ruled, Rules, bind
from recsys.tracking._mlflow import MlflowException, mlflow, types

PARAMS: dict[str, Any] = {"n": 10, "exclude_seen": True, "items": [], "rules": ""}
"""Parameters of a request, with their defaults."""
ITEMS_FILE = "RECSYS_ITEMS"
"""Environment variable: a csv or parquet file with what the rules of requests read of items; read at the start."""
_BOUND = 16
"""Different rules that are kept, so that equal requests bind them once."""


class RecommendationModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A bundle served by MLflow: a table of histories in, a table of recommendations out, one row per user.

    Input columns: `user_id`; `items`, the list of items in the user's history; `ratings`, their values, for models of
    ratings only (otherwise each item counts 1). Ids are text; integers are written in decimal. Unknown items are
    ignored, with a warning in the log if they are more than half. If an item is listed twice, the last entry counts.
    Unknown users are served from their history, and without a usable one by the most popular items.

    Output columns: `user_id`, `items` and `scores`, best first; a list is shorter than `n` if candidates run out; and
    `source`, what the list rests on: `learned` (what training learned of the user), `history`, or `popularity` where
    neither is usable.

    A wrong request raises MlflowException with code INVALID_PARAMETER_VALUE, which MLflow's server answers by status
    400 with the reason. MLflow itself drops columns and parameters that are not in the signature, with a warning.
    """

    def load_context(self, context: Any) -> None:
        """Read the bundle, after importing a user's own model class from the logged code.

        Raises:
            BundleError: it is damaged, holds no ids, a pickle was put beside it, or its class cannot be imported.
        """
        path = Path(context.artifacts[BUNDLE])
        folder = path.parents[1]
        refuse_pickles(folder)
        config = read_config(path)
        for model, module in classes_in(config):
            import_source(model, module, folder / "code")
        self._model = load_bundle(path)
        users, items = self._model.users_, self._model.items_
        if users is None or items is None:
            raise BundleError(f"{path} holds no ids; log models fitted on Interactions")
        # An IdMap indexes the ids of each call, which costs more than the few look-ups of a request.
        self._users, self._items = ({str(id_): code for code, id_ in enumerate(ids)} for ids in (users, items))
        self._names = np.fromiter(self._items, dtype=object, count=len(self._items))
        file = os.environ.get(ITEMS_FILE)
        self._described = read_items(file) if file else None
        self._bound = lru_cache(maxsize=_BOUND)(self._bind)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return recommendations for each row's history.

        Args:
            params: `n`, the length of the lists (10); `exclude_seen`, never recommend an item of the history (True);
                `items`, rank only these and ignore unknown ones ([]: all items); `rules`, JSON of `recsys.Rules`
                without files (empty: none).

        Raises:
            MlflowException: the request is wrong; INVALID_PARAMETER_VALUE.
        """
        try:
            return self._recommend(model_input, {**PARAMS, **(params or {})})
        except RecsysError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _recommend(self, requests: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        n = params["n"]
        if not isinstance(n, Integral) or n < 1:
            raise DataError(f"n must be a whole number of at least 1, got {n!r}")
        if not isinstance(params["exclude_seen"], bool):
            raise DataError(f"exclude_seen must be true or false, got {params['exclude_seen']!r}")
        among = None
        if len(params["items"]):
            codes = (self._items.get(item, -1) for item in _texts(params["items"], "the parameter items"))
            among = np.unique([code for code in codes if code >= 0]).astype(np.int64)
        users = _texts(requests[USER], USER)
        known = np.array([self._users.get(user, -1) for user in users], dtype=np.int64)
        histories, length = self._histories(requests), min(int(n), len(self._items))
        if params["rules"]:
            rules = self._bound(params["rules"])
            seen = rules.hide(users, histories if params["exclude_seen"] else None)
            ruled = Ruled(self._model, rules)
            ids, scores = ruled.recommend(known, histories, length, seen is not None, items=among, seen=seen)
        else:
            filters = params["exclude_seen"]
            ids, scores = self._model.recommend(known, histories, length, filters, items=among)
        lengths, rows = (ids >= 0).sum(axis=1), np.nonzero(ids >= 0)[0]
        popular = popular_lists(self._model, rows, ids[ids >= 0], scores[ids >= 0], len(users))
        return pd.DataFrame(
            {
                USER: users,
                "items": [self._names[row[:n]].tolist() for row, n in zip(ids, lengths, strict=True)],
                "scores": [row[:n].tolist() for row, n in zip(scores, lengths, strict=True)],
                SOURCE: sources_of(self._model, known, histories, popular),
            }
        )

    def _bind(self, text: str) -> BoundRules:
        """Return the rules of a request in terms of the model's items."""
        rules = Rules.from_json(text)
        if rules.reads_files:
            raise DataError(f"the rules of a request name no files: list ids, and describe items in {ITEMS_FILE}")
        if rules.columns and self._described is None:
            raise DataError(
                f"the rules read {', '.join(map(repr, rules.columns))} of the items, of which this server knows "
                f"nothing; start it with {ITEMS_FILE}=FILE, a csv or parquet file with a column item_id"
            )
        return bind(rules, self._described, self._model.items_)

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
        if known.sum() < FEW_KNOWN * len(known):  # no error: a request may well be of one user, of new items alone
            warn(f"only {known.sum():,} of the {len(known):,} entries of the request are with items of the model")
        rows, codes, values = rows[known], codes[known], values[known]
        cell = rows * len(self._items) + codes
        # np.unique returns first occurrences, which in reverse order are the last.
        picked = len(cell) - 1 - np.unique(cell[::-1], return_index=True)[1]
        indptr = np.append(0, np.cumsum(np.bincount(rows[picked], minlength=len(lists))))
        shape = len(lists), len(self._items)
        return sp.csr_matrix((values[picked], codes[picked].astype(np.int32), indptr), shape=shape)


def signature(rated: bool) -> mlflow.models.ModelSignature:
    """Return the signature of `RecommendationModel`; `rated` adds the column of ratings."""
    column, text, texts = types.ColSpec, types.DataType.string, types.schema.Array(types.DataType.string)
    columns = [column(text, USER), column(texts, "items")]
    if rated:
        # MLflow would refuse [5] for a list of doubles; the model checks the values itself.
        columns.append(column(types.schema.Array(types.schema.AnyType()), "ratings"))
    scores = column(types.schema.Array(types.DataType.float), "scores")
    params = [
        types.ParamSpec("n", types.DataType.long, PARAMS["n"]),
        types.ParamSpec("exclude_seen", types.DataType.boolean, PARAMS["exclude_seen"]),
        types.ParamSpec("items", text, PARAMS["items"], shape=(-1,)),
        types.ParamSpec("rules", text, PARAMS["rules"]),
    ]
    return mlflow.models.ModelSignature(
        inputs=types.Schema(columns),
        outputs=types.Schema([column(text, USER), column(texts, "items"), scores, column(text, SOURCE)]),
        params=types.ParamSchema(params),
    )


def example(histories: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the first n users of a table (user, item, rating) as a request; with ratings if any of them is not 1."""
    users = list(histories.groupby(USER, sort=False))[:n]
    frame = pd.DataFrame(
        {
            USER: [str(user) for user, _ in users],
            "items": [[str(item) for item in rows[ITEM]] for _, rows in users],
        }
    )
    if (histories[RATING] != 1).any():
        frame["ratings"] = [rows[RATING].tolist() for _, rows in users]
    return frame


def set_pyfunc_model() -> None:
    """Give `RecommendationModel` to MLflow, which executes `pyfunc_model.py` to get the model."""
    mlflow.models.set_model(RecommendationModel())


def import_source(model: str | None, module: str | None, code: Path) -> None:
    """Import the module (None in old bundles) of a saved model's class, unless the class is registered already.

    It is imported from `code`, the folder of the code logged with the model, and from nowhere else.

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
