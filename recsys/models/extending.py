"""What a fitted model becomes with items and users that training never saw."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Extends:
    """Two doors of every model to what it has not met: each returns another model, and leaves this one as it is.

    What they return is a `Recommender`, which stands above this file.
    """

    def with_items(self, items: Any, user_items: Any = None, **options: Any) -> Any:
        """Return a model that also recommends items that training never saw, by their features (`WithFeatures`).

        Args:
            items: a table with a row per item, of those that the model knows and of new ones: `item_id` and the columns
                that describe them.
            user_items: the interactions that the model was fitted to: items of these are held out to choose how far
                features are trusted.
            options: hyperparameters of `WithFeatures`, such as `columns`, `min_count` and `strength`.

        Raises:
            DataError: the model knows no external ids, or the table describes none of its items.
        """
        return import_module("recsys.models.with_features").extended(self, items, user_items, options)

    def with_users(self, users: Any, user_items: Any = None, **options: Any) -> Any:
        """Return a model that recommends to users without a history by their features (`WithUserFeatures`).

        Args:
            users: a table with a row per user, of those that the model knows and of new ones: `user_id` and the columns
                that describe them.
            user_items: the interactions that the model was fitted to, from which it is learned what features mean.
            options: hyperparameters of `WithUserFeatures`, such as `columns`, `min_count` and `strength`.

        Raises:
            DataError: the model knows no external ids, or the table describes none of its users.
        """
        return import_module("recsys.models.with_user_features").extended(self, users, user_items, options)
