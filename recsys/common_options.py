"""Options that several commands have, and the tables of what their jobs return."""

from __future__ import annotations

from typing import Any

from recsys.arguments import file_option as _file
from recsys.arguments import minutes, positive, readable_path, text
from recsys.arguments import option as _option


def itself(table: Any) -> Any:
    """Return a table that the job returns itself."""
    return table


def facts(facts: Any) -> Any:
    """Return the table of a version's facts."""
    from recsys.jobs.registry import facts_table

    return facts_table(facts)


def described(report: Any) -> Any:
    """Return the rows of a report on data."""
    return report.rows()


def tests(trained: Any) -> Any:
    """Return the rows of what trained models reached."""
    from recsys.jobs.train import tests

    return tests(trained)


def compared(result: Any) -> Any:
    """Return the table of a comparison."""
    return result.table.reset_index()


CONFIG = _option("config", type=readable_path, help="TOML file, such as pipelines/configs/multvae-ml1m.toml")
SET = _option(
    "--set",
    dest="overrides",
    action="append",
    metavar="KEY=VALUE",
    help="in place of the file's value, e.g. --set model.epochs=50; may be repeated",
)
MODEL = _option("model", help="folder, models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/model")
NAME = _option("name", type=text, help="name in the model registry")
LENGTH = _option("-n", type=positive, help="recommendations per user (default 10)")
DATA = _option("--data", help="data set or file with the histories (default: that of the training)")
ITEMS = _option("items", nargs="+", metavar="ITEM", help="item id")
ALIAS = _option("--alias", type=text, help="alias to move (default champion)")
RULES = _file("--rules", "TOML file of rules for lists, or a configuration with a section [rules]")
NEW_ITEMS = _file(
    "--items", "csv or parquet with columns of new items, for a model with features of items", dest="new_items"
)
RULED = (
    RULES,
    _file("--items", "csv or parquet with columns of items: new items for a model with features, and what rules read"),
)
USERS_TABLE = _file("--users-table", "csv or parquet with columns of users, for a model with features of users")
TRIALS = _option("--trials", type=positive, metavar="N", help="settings to try per model, in place of tune.trials")
MINUTES = _option("--minutes", type=minutes, help="time for the trials of a model, in place of tune.minutes")
