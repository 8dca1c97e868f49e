"""The commands of the first hour: from a table of one's own, or a configuration of the package, to lists."""

from __future__ import annotations

from typing import Final

from recsys.arguments import Command, file_option, folder_option, named_path, option, text
from recsys.common_options import LENGTH, itself

SETTINGS: Final = option(
    "--set",
    dest="settings",
    action="append",
    metavar="KEY=VALUE",
    help="in place of what is found, e.g. --set data.user=customer or data.weights.view=1; may be repeated",
)
EVENTS: Final = option(
    "events", type=named_path, help="file or folder of interactions: csv, tsv, parquet, jsonl and others"
)
CATALOG: Final = file_option(
    "--items", "csv, parquet or jsonl with a row per item: titles, and columns that become features"
)


FIRST: Final = (
    Command(
        "init",
        "look at a table, say what it holds, and write a configuration that suits it",
        "recsys.jobs.init:run",
        (EVENTS, CATALOG, file_option("--output", "TOML file to write, a new one (default NAME.toml)"), SETTINGS),
    ),
    Command(
        "run",
        "from a table to lists for everyone: look at it, train models that suit it, score with the best",
        "recsys.jobs.run:run",
        (
            EVENTS,
            folder_option("--output", "folder of the lists, e.g. tonight", required=True),
            CATALOG,
            LENGTH,
            SETTINGS,
        ),
        continues=True,
    ),
    Command(
        "templates",
        "list the configurations that come with the package, or write one",
        "recsys.jobs.templates:run",
        (
            option("name", nargs="?", type=text, help="of the configuration to write, such as multvae-ml1m"),
            file_option("--output", "TOML file to write, a new one (default NAME.toml)"),
        ),
        table=itself,
    ),
)
