"""RecTools and LensKit: models of this package inside their evaluation, and their models inside this one's.

Each library is an extra of its own, `recsys[rectools]` and `recsys[lenskit]`; nothing of it is imported before one of
these functions is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recsys.extras import check_installed
from recsys.models import Recommender

if TYPE_CHECKING:
    from recsys.adapters.lenskit import FromLensKit, ToLensKit
    from recsys.adapters.rectools import FromRecTools, ToRecTools

__all__ = ["from_lenskit", "from_rectools", "to_lenskit", "to_rectools"]


def to_rectools(model: Recommender, *, verbose: int = 0) -> ToRecTools:
    """Return a model of RecTools (a `ModelBase`) over a model of this package, for `cross_validate` and the like.

    Its lists are those of `model.recommend` for the entries of the dataset, which it reads with their weights. Users
    whom the dataset does not hold get the most popular items. There is no validation part: a network trains all of its
    epochs.

    Args:
        model: any model; `fit` of the result fits it, and forgets what it had learned.
        verbose: above 0, training shows its progress.

    Raises:
        ConfigError: RecTools is not installed.
    """
    check_installed("a model for RecTools", "rectools", extra="rectools")
    from recsys.adapters.rectools import ToRecTools

    return ToRecTools(model, verbose=verbose)


def from_rectools(model: Any) -> FromRecTools:
    """Return a model of this package over a model of RecTools, for `evaluate`, `compare` and `recommend_frame`.

    `fit` fits the model of RecTools. Its scores of all items are read, so that histories, seen items and rules are
    treated as those of any model here. It cannot be saved: RecTools saves pickles.

    Args:
        model: an unfitted model of RecTools, such as `EASEModel()`. `fit` refuses transformers, because they read the
            order of a history, which matrices do not hold.

    Raises:
        ConfigError: RecTools is not installed.
    """
    check_installed("a model of RecTools", "rectools", extra="rectools")
    from recsys.adapters.rectools import FromRecTools

    return FromRecTools(model=model)


def to_lenskit(model: Recommender, *, use_ratings: bool = False) -> ToLensKit:
    """Return a scorer of LensKit (a `Component`) over a model of this package, for `topn_pipeline` and `batch`.

    It scores what `model.recommend` does, so that users without a history get the most popular items. There is no
    validation part: a network trains all of its epochs.

    Args:
        model: any model, of which class and hyperparameters are taken; each training makes a new one.
        use_ratings: read the ratings of the dataset as values, and score by predicted ratings where the model predicts
            some; without it every entry counts 1.

    Raises:
        ConfigError: LensKit is not installed.
    """
    check_installed("a scorer for LensKit", "lenskit", extra="lenskit")
    from recsys.adapters.lenskit import ToLensKit

    return ToLensKit(model=type(model).__name__, params=model.params(), use_ratings=use_ratings)


def from_lenskit(model: Any) -> FromLensKit:
    """Return a model of this package over a scorer or a pipeline of LensKit, for `evaluate` and `recommend_frame`.

    `fit` trains it. Its scores of all items are read, so that histories, seen items and rules are treated as those of
    any model here. It cannot be saved: LensKit saves pickles.

    Args:
        model: an untrained scorer, such as `EASEScorer()`, or a `Pipeline` with a node `scorer`.

    Raises:
        ConfigError: LensKit is not installed.
    """
    check_installed("a model of LensKit", "lenskit", extra="lenskit")
    from recsys.adapters.lenskit import FromLensKit

    return FromLensKit(model=model)
