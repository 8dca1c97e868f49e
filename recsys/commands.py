"""The commands: a table of jobs and their options, from which `cli` makes the parser and the calls."""

from __future__ import annotations

from operator import attrgetter

from recsys.arguments import Command, named_path, natural, path, positive, readable_path, share, text
from recsys.arguments import file_option as _file
from recsys.arguments import folder_option as _folder
from recsys.arguments import option as _option
from recsys.common_options import (
    ALIAS,
    CONFIG,
    DATA,
    ITEMS,
    LENGTH,
    MINUTES,
    MODEL,
    NAME,
    NEW_ITEMS,
    RULED,
    SET,
    TRIALS,
    USERS_TABLE,
    compared,
    described,
    facts,
    itself,
    tests,
)
from recsys.first_commands import FIRST

COMMANDS = (
    *FIRST,
    Command(
        "train",
        "train, evaluate, track and register the model of a configuration",
        "recsys.jobs.train:run",
        (
            CONFIG,
            _option("--force", action="store_true", help="register the model even if it is worse than Popularity"),
            SET,
        ),
        continues=True,
        in_ranks=True,
        table=tests,
    ),
    Command(
        "tune",
        "search for hyperparameters on the validation part ([tune] of the configuration)",
        "recsys.jobs.tune:run",
        (CONFIG, _file("--output", "TOML file for the best configuration, for train"), TRIALS, MINUTES, SET),
        continues=True,
        table=attrgetter("trials"),
    ),
    Command(
        "compare",
        "tune, train and test several models alike, into one table with intervals and tests",
        "recsys.jobs.compare:run",
        (
            _option("configs", type=path, nargs="+", metavar="config", help="TOML files of the same data and split"),
            _folder("--output", "folder, e.g. data/compared/ml-1m", required=True, type=path),
            _option("--metric", help="metric that sorts and is tested (default: train.metric)"),
            TRIALS,
            MINUTES,
            SET,
        ),
        continues=True,
        table=compared,
    ),
    Command(
        "evaluate",
        "measure a saved model on the test part it was trained beside, or of a configuration",
        "recsys.jobs.evaluate:evaluate",
        (
            MODEL,
            _file("--config", "TOML file with data and split (default: the training's)", type=readable_path),
            SET,
            _option(
                "--metric",
                dest="metrics",
                action="append",
                metavar="METRIC",
                help="e.g. ndcg@10; may be repeated (default: those of the configuration)",
            ),
            _file("--output", "parquet file for the metrics of each user"),
            _file("--report", "HTML file: figures, breakdowns, example users"),
            *RULED,
            _option(
                "--allow-other-split",
                action="store_true",
                help="evaluate even if the model may have been trained on the test entries, with a warning",
            ),
        ),
        table=attrgetter("summary"),
    ),
    Command(
        "analyze",
        "what a saved model says beyond lists: maps, densities, segments and more, as a page and tables",
        "recsys.jobs.analyze:run",
        (
            MODEL,
            _folder("--output", "folder, e.g. data/analyzed/ml-1m", required=True),
            _option(
                "--what",
                action="append",
                metavar="NAME",
                help="analysis, such as map or density; may be repeated (default: all that the model can answer)",
            ),
            _file(
                "--users",
                "csv or parquet with a column user_id and what is known of users, such as age and gender; - is "
                "standard input",
                type=readable_path,
            ),
            _option("--seed", type=natural, help="of everything that is drawn (default 0)"),
        ),
        continues=True,
    ),
    Command(
        "recommend",
        "print recommendations by title",
        "recsys.jobs.serve:recommend",
        (
            MODEL,
            _option(
                "--user", dest="users", action="append", required=True, metavar="ID", help="user id; may be repeated"
            ),
            LENGTH,
            DATA,
            *RULED,
            USERS_TABLE,
        ),
        table=itself,
    ),
    Command(
        "similar",
        "print the items most similar to some items, by title",
        "recsys.jobs.neighbors:similar",
        (MODEL, ITEMS, _option("-n", type=positive, help="similar items per item (default 10)"), NEW_ITEMS),
        table=itself,
    ),
    Command(
        "users",
        "print the users to whom some items are best offered, who have not seen them",
        "recsys.jobs.neighbors:users",
        (MODEL, ITEMS, _option("-n", type=positive, help="users per item (default 10)"), DATA, NEW_ITEMS),
        table=itself,
    ),
    Command(
        "explain",
        "print which items of a user's history speak for an item, and which against it",
        "recsys.jobs.explain:run",
        (
            MODEL,
            _option("--user", required=True, metavar="ID", help="user id"),
            _option("--item", required=True, metavar="ID", help="item id"),
            _option(
                "--method",
                choices=("exact", "leave-one-out", "gradients"),
                help="how contributions are found (default: exact where scores are sums, else leave-one-out)",
            ),
            _option("-n", type=positive, help="items of the history to print (default 10)"),
            DATA,
            NEW_ITEMS,
        ),
        table=itself,
    ),
    Command(
        "export",
        "write a saved model as a graph for runtimes without Python",
        "recsys.jobs.serve:export",
        (
            MODEL,
            _option("--onnx", type=named_path, metavar="FILE", required=True, help="file to write, e.g. model.onnx"),
        ),
    ),
    Command(
        "promote",
        "give a registered version the alias champion, by hand or if it has earned it",
        "recsys.jobs.contest:promote",
        (
            NAME,
            _option("--version", type=positive, help="version (default: the newest)"),
            _option(
                "--challenger",
                nargs="?",
                type=positive,
                const=0,
                metavar="VERSION",
                help="test this version (default: the newest) against the champion on the same users; "
                "it must earn the alias",
            ),
            ALIAS,
            _option("--reason", type=text, metavar="TEXT", help="why; stored with the version"),
            _option("--dry-run", action="store_true", help="say what would change, and change nothing"),
        ),
    ),
    Command("rollback", "give the alias back to its previous holder", "recsys.jobs.contest:rollback", (NAME, ALIAS)),
    Command("registry list", "every version of every model", "recsys.jobs.registry:list_models", table=itself),
    Command(
        "registry show",
        "a version's tags, parameters, metrics and notes (default: the champion, else the newest)",
        "recsys.jobs.registry:show",
        (NAME, _option("version", nargs="?", type=positive, help="number of the version")),
        table=facts,
    ),
    Command(
        "registry diff",
        "in what two versions differ",
        "recsys.jobs.registry:diff",
        (NAME, *(_option(which, type=positive, help="number of a version") for which in ("one", "other"))),
        table=itself,
    ),
    Command(
        "registry prune",
        "delete old versions with their files, never one with an alias; says what would go unless --yes",
        "recsys.jobs.registry:prune",
        (
            NAME,
            _option("--keep", type=positive, required=True, help="how many to keep of the versions without an alias"),
            _option("--yes", dest="delete", action="store_true", help="delete"),
        ),
        continues=True,
    ),
    Command(
        "ui",
        "open MLflow's pages on the project's store",
        "recsys.jobs.registry:ui",
        (_option("--port", type=positive, help="port on this machine (default 5000)"),),
    ),
    Command(
        "sync",
        "send the tracking server what waits in mlruns/pending",
        "recsys.jobs.registry:sync",
        continues=True,
    ),
    Command(
        "score",
        "write the recommendations of all users, or of listed ones, as parquet",
        "recsys.jobs.serve:score",
        (
            MODEL,
            _folder("--output", "folder, e.g. data/scored/tonight", required=True),
            LENGTH,
            _option(
                "--batch-size",
                type=positive,
                metavar="N",
                help="users per part file; a killed job continues after its last whole part (default 16384)",
            ),
            DATA,
            _file(
                "--users",
                "user ids to score: text, one a line, or csv or parquet with a column user_id; - is standard input "
                "(default: all)",
                type=readable_path,
            ),
            _option(
                "--on-unknown",
                choices=("raise", "drop"),
                help="listed users who are not in the data: refuse the list (default) or leave them out",
            ),
            _option(
                "--recall",
                type=share,
                metavar="SHARE",
                help="find items by an index that holds this share of the exact lists, e.g. 0.95 (default: exact)",
            ),
            _option(
                "--reasons",
                type=positive,
                metavar="N",
                help="also write up to N items of the history that speak for each item, as a column of lists",
            ),
            _option("--titles", action="store_true", help="also write the titles of the items, as a column"),
            *RULED,
            USERS_TABLE,
            _file("--allow", "recommend only these items: text, one id a line, or csv or parquet with item_id"),
            _file("--exclude", "never recommend these items: the same"),
            _option("--engine", choices=("local", "spark"), help="what computes: this process (default), or Spark"),
            _option(
                "--master", type=text, metavar="URL", help="of Spark, such as spark://HOST:7077 (default local[*])"
            ),
        ),
        continues=True,
    ),
    Command(
        "data",
        "describe a data set or file; of a configuration, its split and what leaks in it too",
        "recsys.jobs.data:run",
        (_option("source", metavar="NAME|FILE", help="name of a data set, file, folder or configuration (.toml)"), SET),
        table=described,
    ),
    Command(
        "prepare",
        "read, filter and split the data of a configuration into shards, for data that do not fit in memory",
        "recsys.jobs.prepare:run",
        (
            CONFIG,
            _folder("--output", "folder of the shards, e.g. data/shards/plays", required=True),
            _option(
                "--engine",
                choices=("duckdb", "spark", "local"),
                help="what reads the data: duckdb (default), spark, or local, in memory; all write the same files",
            ),
            _option(
                "--memory",
                type=text,
                metavar="SIZE",
                help="for DuckDB's buffers or Spark's heap, such as 4GB (default 1GB)",
            ),
            _option("--unsplit", action="store_true", help="all entries in one part: histories to score from"),
            SET,
        ),
    ),
    Command(
        "nightly",
        "the night's job: train a challenger, let it earn the alias, score the champion",
        "recsys.jobs.nightly:run",
        (
            CONFIG,
            _folder("--output", "folder of recommendations (default data/scored/NAME)"),
            _file("--summary", "JSON file (default mlruns/nightly/NAME.json)"),
            LENGTH,
            SET,
        ),
        continues=True,
    ),
    Command(
        "completion",
        "print what makes a shell complete these commands, for its configuration",
        "recsys.jobs.completion:run",
        (_option("shell", choices=("bash", "zsh", "fish"), help="name of the shell"),),
    ),
    Command("demo", "the whole path on generated data, in about two minutes", "recsys.jobs.demo:run"),
)

GROUPS = {"registry": "look at the model registry, and delete old versions"}
"""What commands of two words have in common, by the first."""
