"""New users of a job: a table of users without a history, for a model that reads features of users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from recsys.columns import USER
from recsys.config import DataConfig
from recsys.errors import ConfigError
from recsys.frames import column_of
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender, WithUserFeatures
from recsys.models.described import longer


def with_table(
    model: Recommender, file: Path | None, section: DataConfig, root: Path
) -> tuple[Recommender, Interactions, Interactions | None]:
    """Return a model with the users of a table, read as the data read theirs, and `section.histories` of all users.

    Raises:
        ConfigError: the model reads no features of users.
        DataError: the table cannot be read, or lacks the column of users or one that the model reads.
    """
    table = None if file is None else section.users_in(str(file))
    whole = with_newcomers(model, table)
    histories, seen = section.histories(root)
    return whole, with_rows(histories, table), None if seen is None else with_rows(seen, table)


def with_newcomers(model: Recommender, table: pd.DataFrame | None) -> Recommender:
    """Return a model with the users of a table; as it is without one.

    Raises:
        ConfigError: the model reads no features of users.
        DataError: the table lacks a column that the model reads.
    """
    if table is None:
        return model
    if not isinstance(model, WithUserFeatures) or model.features_ is None:
        raise ConfigError(
            f"--users-table is for a model with features of users (docs/new-users.md), and this {type(model).__name__} "
            "reads none: leave it out, or train WithUserFeatures with data.users"
        )
    return model.with_users(table)


def with_rows(data: Interactions, table: pd.DataFrame | None) -> Interactions:
    """Return interactions with an empty row behind the others for each user of a table who has none."""
    if table is None:
        return data
    ids = IdMap(column_of(table, USER))
    new = data.users.codes_of(ids, "user") < 0
    if not new.any():
        return data
    whole, _ = longer(data.users, None, ids, new, table, "users")
    empty = sp.csr_matrix(np.zeros((len(whole) - len(data.users), data.shape[1]), np.float32))
    matrix = sp.csr_matrix(sp.vstack([data.matrix, empty], format="csr"))
    return replace(data, matrix=matrix, users=whole, user_columns={})
