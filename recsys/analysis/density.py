"""How likely a model finds a history: log p(x) by importance sampling, and a table that orders models by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.columns import USER
from recsys.errors import DataError
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.params import check_count, random_generator

Doubles = npt.NDArray[np.float64]

_SCORES = 2**23
"""Scores of draws computed at a time: 32 MiB, and a few times as much beside them."""


def log_likelihood(
    model: Recommender, user_items: Any, *, samples: int = 100, seed: int | np.random.Generator = 0
) -> pd.DataFrame:
    """Return an estimate of log p(x) of each history x, in nats.

    log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x), z_k ~ q(z|x) (Burda, Grosse and Salakhutdinov 2016, eq. 8, K = `samples`).
    Its mean over draws lies below log p(x) and grows with K (their theorem 1). What x is depends on the likelihood:

    - multinomial: the counts of the items, given their number N, as N draws with replacement; log p(x) includes the
      coefficient N! / Π_i x_i!. Histories that hold an item once or not at all get less than all of the probability.
    - bernoulli: for every item, whether it is in the history.
    - gaussian: the values of all items, 0 where nothing is stored; a density, given which entries are stored where
      `unobserved_weight` is not 1.

    Histories are read without input dropout. Only values of models with the same likelihood compare. Where no KL term
    keeps q(z|x) as wide as p(z|x), as in AAE, ALI and models with β far below 1, few draws count and the estimate is
    too low: look at `effective_samples`.

    Args:
        samples: K. What bounds memory is the catalog, not K.

    Returns:
        one row per history:

        - `user_id`: the external id, the row's number where there are none;
        - `log_likelihood`;
        - `per_entry`: what compares long and short histories. Multinomial: the mean over the N entries of the log
          probability of one, log p(x) without the coefficient, over N; NaN for an empty history. Otherwise
          log p(x) over the number of items;
        - `entries`: what it was divided by;
        - `standard_error` of `log_likelihood`, by the delta method; NaN for one sample. Near 1 it says that a single
          draw outweighs all others: log p(x) may then be much larger;
        - `effective_samples`: (Σ w)² / Σ w², from 1 to K;
        - `log_coefficient`: log N! / Π_i x_i!; 0 for the other likelihoods.

    Raises:
        UnsupportedError: the model has no likelihood of histories, or no prior without one.
        DataError: values that the likelihood does not make: fractions (multinomial), others than 0 and 1 (bernoulli).
    """
    samples = check_count("samples", samples, DataError)
    name = model.distribution().likelihood
    model.draw_prior(1, 0)  # refuses a model that has none, before the work
    matrix, users = _rows(model, user_items)
    rng = random_generator(seed)
    _check_values(matrix, name)
    n, n_items = matrix.shape
    found = np.zeros((3, n))
    each = max(1, _SCORES // n_items)
    for start in range(0, n, max(1, each // samples)):
        part = slice(start, min(n, start + max(1, each // samples)))
        found[:, part] = _summary(_log_weights(model, matrix[part], samples, each, rng))
    total = np.asarray(matrix.sum(1), dtype=np.float64).ravel()
    if name == "multinomial":
        found[:, total == 0] = np.array([[0.0], [0.0], [samples]])  # given N = 0, there is one history
        coefficient, entries = _log_coefficient(matrix), total
    else:
        coefficient, entries = np.zeros(n), np.full(n, float(n_items))
    with np.errstate(invalid="ignore"):
        per_entry = found[0] / entries
    return pd.DataFrame(
        {
            USER: users,
            "log_likelihood": found[0] + coefficient,
            "per_entry": per_entry,
            "entries": entries.astype(np.int64),
            "standard_error": found[1] if samples > 1 else np.full(n, np.nan),
            "effective_samples": found[2],
            "log_coefficient": coefficient,
        }
    )


def compare_likelihoods(
    models: Mapping[str, Recommender], user_items: Any, *, samples: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Return a row per model with its mean log-likelihood of histories that it was not trained on, the best first.

    The row `popularity` has no latent variable (`popularity_likelihood`, by what the first model of that likelihood
    knows of training). Compare rows of one likelihood.

    Returns:
        columns `model`, `likelihood`, `log_likelihood` and `per_entry` (means over histories, nats), `perplexity`
        (exp of −Σ log p / Σ entries, without coefficients), `standard_error` (of the mean of `log_likelihood` over
        histories), `effective_samples` (median), `histories`.
    """
    rows = []
    plain: dict[str, Recommender] = {}
    for title, model in models.items():
        frame = log_likelihood(model, user_items, samples=samples, seed=seed)
        kind: str = model.distribution().likelihood
        rows.append(_row(title, kind, frame))
        plain.setdefault(kind, model)
    for kind, model in plain.items():
        if kind != "gaussian":
            rows.append(_row("popularity", kind, popularity_likelihood(model, user_items)))
    table = pd.DataFrame(rows).sort_values("log_likelihood", ascending=False, ignore_index=True)
    return table.sort_values("likelihood", kind="stable", ignore_index=True)


def popularity_likelihood(model: Recommender, user_items: Any) -> pd.DataFrame:
    """Return what `log_likelihood` does, of the model with one distribution for all users: popularity in training.

    Of a Bernoulli model the chance of an item is (users who have it + ½) / (users + 1); else that of an entry is
    (users who have it + 1) / (entries + items).
    """
    matrix, users = _rows(model, user_items)
    name = model.distribution().likelihood
    _check_values(matrix, name)
    n, n_items = matrix.shape
    have = model.popularity_.astype(np.float64) * model.n_users_
    if name == "bernoulli":
        chance = (have + 0.5) / (model.n_users_ + 1.0)
        logs = matrix @ (np.log(chance) - np.log1p(-chance)) + np.log1p(-chance).sum()
        coefficient, entries = np.zeros(n), np.full(n, float(n_items))
    elif name == "multinomial":
        logs = matrix @ np.log((have + 1.0) / (have.sum() + n_items))
        coefficient, entries = _log_coefficient(matrix), np.asarray(matrix.sum(1), dtype=np.float64).ravel()
    else:
        raise DataError("popularity has no gaussian likelihood; use a multinomial or bernoulli model")
    with np.errstate(invalid="ignore"):
        per_entry = logs / entries
    return pd.DataFrame(
        {
            USER: users,
            "log_likelihood": logs + coefficient,
            "per_entry": per_entry,
            "entries": entries.astype(np.int64),
            "standard_error": 0.0,
            "effective_samples": np.nan,
            "log_coefficient": coefficient,
        }
    )


def _row(name: str, likelihood: str, frame: pd.DataFrame) -> dict[str, Any]:
    logs, entries = frame["log_likelihood"].to_numpy(), float(frame["entries"].sum())
    without = float((frame["log_likelihood"] - frame["log_coefficient"]).sum())
    return {
        "model": name,
        "likelihood": likelihood,
        "log_likelihood": float(logs.mean()),
        "per_entry": float(frame["per_entry"].mean()),
        "perplexity": float(np.exp(-without / entries)) if entries else np.nan,
        "standard_error": float(logs.std(ddof=1) / len(logs) ** 0.5) if len(logs) > 1 else np.nan,
        "effective_samples": float(frame["effective_samples"].median()),
        "histories": len(logs),
    }


def _rows(model: Recommender, user_items: Any) -> tuple[sp.csr_matrix, npt.NDArray[Any]]:
    """Return histories with the model's columns, and what names each row."""
    matrix = model._matrix(user_items)
    ids = np.asarray(list(user_items.users)) if isinstance(user_items, Interactions) else np.arange(matrix.shape[0])
    return matrix, ids


def _check_values(matrix: sp.csr_matrix, name: str) -> None:
    if name == "multinomial" and (wrong := int((matrix.data != np.floor(matrix.data)).sum())):
        raise DataError(
            f"a multinomial likelihood is of whole counts, and {wrong:,} values are fractions; use .binarized()"
        )
    if name == "bernoulli" and (wrong := int(((matrix.data != 0) & (matrix.data != 1)).sum())):
        raise DataError(f"a bernoulli likelihood is of 0 and 1, and {wrong:,} values are others; use .binarized()")


def _log_weights(
    model: Recommender, histories: sp.csr_matrix, samples: int, each: int, rng: np.random.Generator
) -> Doubles:
    """Return log p(x|z) + log p(z) − log q(z|x), (n_rows, samples), some draws at a time."""
    n = histories.shape[0]
    weights = np.empty((n, samples))
    step = max(1, each // n)
    for start in range(0, samples, step):
        draws = min(step, samples - start)
        repeated = histories[np.repeat(np.arange(n), draws)]
        codes, of_posterior = model.draw_posterior(repeated, rng)
        logs = model.log_conditional(repeated, codes) + model.log_prior(codes) - of_posterior
        weights[:, start : start + draws] = logs.reshape(n, draws)
    return weights


def _summary(weights: Doubles) -> Doubles:
    """Return the log of the mean weight, its standard error and the effective samples of each row, (3, n_rows)."""
    samples = weights.shape[1]
    largest = weights.max(1, keepdims=True)
    scaled = np.exp(weights - largest)
    total = scaled.sum(1)
    effective = total**2 / np.square(scaled).sum(1)
    # Var(w̄) / w̄² = (K / ESS − 1) / (K − 1)
    error = np.sqrt(np.maximum(samples / effective - 1.0, 0.0) / max(1, samples - 1))
    return np.stack([largest[:, 0] + np.log(total / samples), error, effective])


def _log_coefficient(matrix: sp.csr_matrix) -> Doubles:
    """Return log N! / Π_i x_i! of each row."""
    from scipy.special import gammaln

    total = np.asarray(matrix.sum(1), dtype=np.float64).ravel()
    logs = matrix.copy().astype(np.float64)
    logs.data = gammaln(logs.data + 1.0)
    found: Doubles = gammaln(total + 1.0) - np.asarray(logs.sum(1)).ravel()
    return found
