"""Stop jobs at every step: `python -m tests.crashes [JOB ...] [--fault kill|ENOSPC|EACCES|FULL] [--every N]`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.crashes import forks, trials
from tests.crashes.boxes import new_box
from tests.crashes.jobs import JOBS, Setups
from tests.crashes.recorder import FAULTS, Reservoir
from tests.crashes.trials import Choice, Outcome


def main(argv: Sequence[str] | None = None) -> int:
    """Try the jobs and print a table; return 1 if a case failed."""
    options = _parser().parse_args(argv)
    forks.preload()
    outcomes = []
    choice = Choice(options.every, not options.all, options.distinct, options.sample, tuple(options.only), options.seed)
    with new_box(keep=options.keep) as box:
        setups = Setups(box)
        for name in options.jobs or JOBS:
            began = time.monotonic()
            sample = Reservoir(options.sample, f"{options.seed} {name}") if options.sample else None
            bench = trials.Bench(box, setups, JOBS[name], sample)
            faults = options.fault or ["kill"]
            if options.one_fault:
                errors = [fault for fault in faults if fault != "kill"]
                faults = ["kill", errors[(options.seed + len(outcomes) // 2) % len(errors)]]
            for fault in faults:
                outcome = trials.run(bench, fault, choice)
                outcome.seconds = time.monotonic() - began
                began = time.monotonic()
                outcomes.append(outcome)
                _print(outcome, options.failures)
    print(f"\n{table(outcomes)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return int(any(outcome.failures for outcome in outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--fault", action="append", choices=("none", "kill", *FAULTS), help="may be repeated")
    parser.add_argument("--one-fault", action="store_true", help="with each job the kill and one of the other faults")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th case")
    parser.add_argument("--only", type=int, action="append", default=[], metavar="STEP", help="may be repeated")
    parser.add_argument("--sample", type=int, metavar="N", help="N cases at random of each job and fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="also each of the many steps that copy source files")
    parser.add_argument("--distinct", action="store_true", help="of errors at steps that do the same, only the first")
    parser.add_argument("--failures", type=int, default=3, metavar="N", help="examples to print of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes")
    parser.add_argument("--keep", action="store_true", help="keep the last sandbox")
    return parser


def _print(outcome: Outcome, examples: int) -> None:
    print(
        f"\n{outcome.job} ({outcome.fault}): {outcome.steps} steps, {outcome.tried} tried, "
        f"{len(outcome.failures)} failed, {outcome.seconds:.0f} s",
        flush=True,
    )
    for kind, count in outcome.by_kind.most_common():
        print(f"  {count} × {kind}")
        for failure in [failure for failure in outcome.failures if failure.kind == kind][:examples]:
            print(f"    step {failure.case.step}, {failure.case.text}")
            for line in failure.detail:
                print(f"      {line[:230]}")
    for note in outcome.notes:
        print(f"  note: {note}")


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as a table."""
    rows = [("job", "fault", "steps", "states", "tried", "failed", "seconds", "kinds")]
    for outcome in outcomes:
        kinds = ", ".join(f"{count} {kind}" for kind, count in outcome.by_kind.most_common()) or "-"
        figures = (outcome.steps, outcome.states, outcome.tried, len(outcome.failures), round(outcome.seconds))
        rows.append((outcome.job, outcome.fault, *map(str, figures), kinds))
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[7]]) for row in rows
    )


if __name__ == "__main__":
    raise SystemExit(main())
