"""Measure a shipped configuration and write its figures to docs/results.json: `python -m docs.record CONFIG ...`.

Each configuration is trained as `recsys train` does it, in a store of its own that is deleted afterwards. `make docs`
makes the tables.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from docs.generate import results
from recsys.config import load_config
from recsys.jobs import train
from recsys.workspace import Workspace


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the configurations that are named, or take the text of a comparison."""
    parser = argparse.ArgumentParser(prog="python -m docs.record", description=__doc__)
    parser.add_argument("configs", nargs="*", type=Path, metavar="CONFIG", help=f"a file of {results.CONFIGS}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as that of recsys train")
    parser.add_argument("--table", choices=results.TABLES, help="where a configuration that is new belongs")
    parser.add_argument("--model", metavar="TEXT", help="how the table calls it; needed if it is new")
    parser.add_argument("--compared", nargs=2, metavar=("NAME", "FILE"), help="take what recsys compare wrote")
    options = parser.parse_args(argv)
    for config in options.configs:
        figure = measured(config, options.set)
        content = dict(results.read())
        key = (figure["config"], figure.get("set"))
        old: dict[str, Any] = next((one for one in content["figures"] if (one["config"], one.get("set")) == key), {})
        named = {name: value for name, value in vars(options).items() if name in ("table", "model") and value}
        merged = {**old, **named, **figure}
        if not {"table", "model"} <= set(merged):
            parser.error(f"{config} is new: give --table and --model")
        content["figures"] = [one for one in content["figures"] if one is not old] + [merged]
        results.write(content)
        print(merged)
    if options.compared:
        name, file = options.compared
        content = dict(results.read())
        content["compared"] = {**content.get("compared", {}), name: Path(file).read_text(encoding="utf-8")}
        results.write(content)


def measured(config: Path, options: Sequence[str]) -> dict[str, Any]:
    """Return the test figures of a configuration, with the standard error over users, or one value for each seed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        trained = train.run(Workspace(Path(root)), load_config(config, options))
    seconds = round(time.monotonic() - began)
    tests = [one.test for one in trained]
    values = {name: [round(test[name], 5) for test in tests] for name in tests[0].values}
    summary = tests[0].summary.set_index("metric")["standard_error"].dropna()
    errors = {str(name): round(float(error), 5) for name, error in summary.items()} if len(tests) == 1 else {}
    chosen = {name: [round(one.validation[name], 5) for one in trained] for name in trained[0].validation}
    figure = {"config": config.stem, "values": values, "errors": errors, "validation": chosen, "seconds": seconds}
    return {**figure, "measured": date.today().isoformat(), **({"set": list(options)} if options else {})}


if __name__ == "__main__":
    main()
