"""Jobs killed at random moments: `python -m tests.crashes.campaign --kills 200 --seed 1`."""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.crashes import forks
from tests.crashes.boxes import new_box
from tests.crashes.jobs import JOBS, Setups
from tests.crashes.state import difference
from tests.crashes.trials import Bench, facts, wrong

AGAIN = 0.25
"""Chance that what runs after a kill is killed as well."""
FIRST, FIRST_SHARE = "train-new", 0.2
"""The job that begins with a new root, and how many of the kills are certainly of it."""
EARLY = 0.3
"""Share of the kills that come in the first fifth of a job."""


@dataclass(frozen=True)
class Killed:
    """A job that was killed, and what was wrong after it had run again."""

    number: int
    job: str
    moments: tuple[float, ...]
    """Seconds from each start to its kill."""
    kind: str = ""
    """Empty where nothing was wrong."""
    detail: tuple[str, ...] = ()


def run(kills: int, seed: int, jobs: Sequence[str]) -> list[Killed]:
    """Kill jobs so many times in all, each at a random moment, and run them until they end."""
    chance = random.Random(seed)
    done: list[Killed] = []
    with new_box() as box:
        setups = Setups(box)
        benches: dict[str, Bench] = {}
        made = 0
        while made < kills:
            name = FIRST if FIRST in jobs and chance.random() < FIRST_SHARE else chance.choice(list(jobs))
            if name not in benches:
                benches[name] = Bench(box, setups, JOBS[name])
            killed = _kill(benches[name], chance, len(done) + 1)
            made += len(killed.moments)
            done.append(killed)
            if killed.kind:
                print(f"{killed.number}. {name}, killed after {_shown(killed.moments)}: {killed.kind}", flush=True)
                for line in killed.detail:
                    print(f"      {line[:230]}")
    return done


def _kill(bench: Bench, chance: random.Random, number: int) -> Killed:
    box, moments, complete = bench.box, list[float](), False
    box.put_back(bench.before)
    while not moments or chance.random() < AGAIN:
        share = chance.random() * (0.2 if chance.random() < EARLY else 1.0)
        moment = share * bench.seconds
        moments.append(moment)
        pid = forks.start(box, bench.arguments)
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        tree = box.capture()
        complete = complete or not difference(facts(bench.once), facts(bench.found()))
        box.put_back(tree)
    if complete:
        twice = bench.twice
        box.put_back(tree)
    ended = forks.run(box, bench.arguments)
    found = bench.found()
    told = (number, bench.job.name, tuple(moments))
    if complete:
        verdict = min((wrong(difference(state, found)) for state in (twice, bench.once)), key=bool)
        return Killed(*told, *(verdict or ()))
    if ended.status or ended.hung:
        return Killed(*told, f"exit {ended.status}", tuple(ended.err.strip().splitlines()[-3:]))
    return Killed(*told, *(wrong(difference(bench.once, found)) or ()))


def _shown(moments: Sequence[float]) -> str:
    return ", ".join(f"{moment:.3f} s" for moment in moments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign and print what was wrong; return 1 if anything was."""
    parser = argparse.ArgumentParser(prog="python -m tests.crashes.campaign", description=__doc__)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--kills", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    forks.preload()
    began = time.monotonic()
    done = run(options.kills, options.seed, options.jobs or list(JOBS))
    failed = [killed for killed in done if killed.kind]
    kills = sum(len(killed.moments) for killed in done)
    print(f"\n{kills} kills in {len(done)} jobs, {len(failed)} not as undisturbed, {time.monotonic() - began:.0f} s")
    for name in dict.fromkeys(killed.job for killed in done):
        of_job = [killed for killed in done if killed.job == name]
        wrongs = [killed.kind for killed in of_job if killed.kind]
        shown = ", ".join(f"{wrongs.count(kind)} {kind}" for kind in dict.fromkeys(wrongs)) or "-"
        print(f"  {name:<12} {len(of_job):>3} tried  {len(wrongs):>3} failed  {shown}")
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
