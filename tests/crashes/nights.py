"""Five nights on data that change, each killed at a random moment: `python -m tests.crashes.nights --seed 1`."""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections.abc import Sequence

from tests.crashes import forks
from tests.crashes.boxes import Box, new_box
from tests.crashes.jobs import NIGHT, USED, Setups, arguments
from tests.crashes.state import State, collect, difference

INTERACTIONS = (6000, 6400, 6400, 7000, 7600)
"""Of the data in each night; in the third nothing has changed."""


def night(box: Box, interactions: int) -> list[str]:
    """Return the command of a night."""
    return arguments(box, (*NIGHT, "--set", f"data.interactions={interactions}"))


def undisturbed(box: Box, setups: Setups) -> tuple[State, list[float]]:
    """Return what five nights leave, and the seconds of each."""
    box.put_back(setups.tree(USED))
    seconds = []
    for interactions in INTERACTIONS:
        ended = forks.run(box, night(box, interactions))
        if ended.status:
            raise RuntimeError(f"a night ended with {ended.status}: {ended.err}")
        seconds.append(ended.seconds)
    return collect(box), seconds


def killed(box: Box, setups: Setups, seconds: Sequence[float], chance: random.Random) -> tuple[State, str]:
    """Return what five nights leave that were each killed once and run again, and the moments of the kills."""
    box.put_back(setups.tree(USED))
    moments = []
    for interactions, usual in zip(INTERACTIONS, seconds, strict=True):
        moment = chance.random() * usual
        moments.append(f"{moment:.2f} of {usual:.2f} s")
        pid = forks.start(box, night(box, interactions))
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        box.put_back(box.capture())  # without temporary files
        ended = forks.run(box, night(box, interactions))
        if ended.status:
            return collect(box), f"{', '.join(moments)}: exit {ended.status}: {ended.err.strip()}"
    return collect(box), ", ".join(moments)


def summary(state: State, *, course: bool = True) -> State:
    """Return only the summary of the last night; without `course`, only what it says of the champion and the lists."""
    words = ("outcome ", "course ") if course else ("outcome ",)
    return State(type(state.lines)({line: n for line, n in state.lines.items() if line.startswith(words)}))


def run(rounds: int, seed: int) -> tuple[int, int]:
    """Kill five nights so many times; print what differs, and return how often the summary did and anything did."""
    chance, summaries, any_wrong = random.Random(seed), 0, 0
    with new_box() as box:
        setups = Setups(box)
        expected, seconds = undisturbed(box, setups)
        for number in range(rounds):
            found, moments = killed(box, setups, seconds, chance)
            of_summary = difference(summary(expected), summary(found))
            left = difference(expected, found)
            summaries += bool(of_summary)
            any_wrong += bool(left)
            print(f"{number + 1}. killed after {moments}: {'as undisturbed' if not left else ', '.join(left.kinds)}")
            for line in (*of_summary.first(), *left.first(6)):
                print(f"      {line[:200]}", flush=True)
    return summaries, any_wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Kill nights and print what differs; return 1 if the last summary ever does."""
    parser = argparse.ArgumentParser(prog="python -m tests.crashes.nights", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    forks.preload()
    summaries, any_wrong = run(options.rounds, options.seed)
    print(f"\n{options.rounds} times five nights: {summaries} summaries differ, in {any_wrong} anything does")
    return int(bool(summaries))


if __name__ == "__main__":
    raise SystemExit(main())
