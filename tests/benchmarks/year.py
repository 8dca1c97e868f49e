"""A year of nightly contests, simulated: how often a rule promotes what is no better, and how soon what is.

python -m tests.benchmarks.year [--users 600] [--years 1000] [--gains 0.03 0.04 0.05 0.06]

Every night a challenger is trained anew and tested against the champion on the same held-out users. How much a model is
worth to a user is the user's own share, which cancels, plus the model's true gain, plus its luck with that user, which
stays as long as the model does: so all challengers of a champion meet its luck, as they do in life. With new data the
items to be found are drawn anew, and with them the rest of the luck. Values are shares of the first champion's, and
their spreads those of trainings of one Mult-VAE with other seeds (nDCG@10, see `World`). Where challengers become
better, they do so on a random night of the year and from then on, each trained anew, and their method has a luck of its
own with each user.

The decision is that of `recsys.promotion.decide`, computed for all years at once: the interval is mean ± z standard
errors in place of the bootstrap, and p the normal approximation of the sign-flip test. `tests/test_year.py` holds it
against `decide`. Guard-rails and scoring times play no part.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from recsys.error_budget import level
from recsys.promotion import Rule

Floats = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]
RULE = Rule("ndcg@10")
Z = NormalDist().inv_cdf((1 + RULE.confidence) / 2)
WEEK = 7


@dataclass(frozen=True)
class World:
    """What is simulated."""

    users: int = 600
    nights: int = 365
    years: int = 1000
    gain: float = 0.0
    """True gain of the challengers from a random night on, as a share of the champion's value."""
    seeds: float = 0.0
    """Standard deviation of the true values of two trainings with other seeds."""
    spread: float = 0.24
    """Standard deviation over users of the difference of two trainings of one method, on one night."""
    redrawn: float = 0.6
    """Share of that variance which is drawn anew each night; 0 where data and split stay."""
    busy: float = 0.18
    """Share of users for whom what is drawn anew is not 0: it gives the difference a kurtosis of 5.4."""
    method: float = 0.15
    """Standard deviation over users of the luck that a better method has, whatever its seed."""


@dataclass
class Contest:
    """What one night shows, of all years."""

    night: int
    differences: Floats
    """(years, users): challenger minus champion."""
    fresh: tuple[Floats, Floats]
    """Mean and standard error of the difference on as many users who have decided nothing yet."""


Decide = Callable[[Contest], Flags]


def gain_of(differences: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard error of each year's differences."""
    return differences.mean(1), differences.std(1, ddof=1) / np.sqrt(differences.shape[1])


def by_interval(mean: Floats, error: Floats) -> Flags:
    """Return where the whole interval lies above the minimum gain."""
    return mean - Z * error > RULE.minimum_gain


def chance(differences: Floats) -> Floats:
    """Return the one-sided p-value of the sign-flip test in its normal approximation."""
    squares = np.einsum("yu,yu->y", differences, differences)
    return ndtr(-differences.sum(1) / np.sqrt(np.maximum(squares, 1e-30)))


def interval_alone(contest: Contest) -> Flags:
    """Decide each contest by itself."""
    return by_interval(*gain_of(contest.differences))


def shipped(contest: Contest) -> Flags:
    """Decide as `recsys promote` does."""
    return interval_alone(contest) & (chance(contest.differences) <= level(RULE.error_budget, contest.night))


def uniform(contest: Contest) -> Flags:
    """Spend the budget evenly over the nights of a year."""
    return interval_alone(contest) & (chance(contest.differences) <= RULE.error_budget / 365)


def minimum_at_level(contest: Contest) -> Flags:
    """Spend as shipped, and demand the minimum gain at that level too."""
    mean, error = gain_of(contest.differences)
    return mean + NormalDist().inv_cdf(level(RULE.error_budget, contest.night)) * error > RULE.minimum_gain


def halves(contest: Contest) -> Flags:
    """Screen on one half of the users, drawn anew each night, and confirm on the other, both within the budget."""
    half = contest.differences.shape[1] // 2
    rolled = np.roll(contest.differences, contest.night * 7919 % (2 * half), axis=1)
    confirmed = chance(rolled[:, half:]) <= RULE.error_budget / (365 * (1 - RULE.confidence) / 2)
    return by_interval(*gain_of(rolled[:, :half])) & confirmed


def fresh_alone(contest: Contest) -> Flags:
    """Confirm on fresh users what passed the interval, without a budget."""
    return interval_alone(contest) & by_interval(*contest.fresh)


class FreshBudget:
    """Confirm on fresh users what passed the interval; only confirmations spend, each a tenth of what is left."""

    def __init__(self, years: int) -> None:
        self.confirmations = np.zeros(years)

    def __call__(self, contest: Contest) -> Flags:
        """Return where the challenger is promoted."""
        asked = interval_alone(contest)
        mean, error = contest.fresh
        granted = RULE.error_budget / 10 * 0.9**self.confirmations
        self.confirmations += asked
        return asked & (ndtr(-mean / error) <= granted)


class Lord:
    """LORD++ (Ramdas et al. 2017): a false discovery rate over time, where each promotion earns new budget."""

    def __init__(self, years: int) -> None:
        self.promoted: list[Flags] = []
        self.years = years
        j = np.arange(1, 1001)
        gamma = np.log(np.maximum(j, 2)) / (j * np.exp(np.sqrt(np.log(j))))
        self.gamma = gamma / gamma.sum()

    def __call__(self, contest: Contest) -> Flags:
        """Return where the challenger is promoted."""
        half = RULE.error_budget / 2
        granted = np.full(self.years, self.gamma[contest.night - 1] * half)
        seen = np.zeros(self.years, dtype=np.int64)
        for night, flags in enumerate(self.promoted, start=1):
            if flags.any():
                seen += flags
                granted += flags * np.where(seen == 1, half, RULE.error_budget) * self.gamma[contest.night - night - 1]
        found = interval_alone(contest) & (chance(contest.differences) <= granted)
        self.promoted.append(found)
        return found


RULES: dict[str, Callable[[int], Decide]] = {
    "each contest by itself": lambda years: interval_alone,
    "budget, a share of what is left (shipped)": lambda years: shipped,
    "budget, evenly over 365": lambda years: uniform,
    "budget, minimum gain at its level": lambda years: minimum_at_level,
    "LORD++": Lord,
    "two halves, drawn anew": lambda years: halves,
    "fresh users, no budget": lambda years: fresh_alone,
    "fresh users, budget": FreshBudget,
}


@dataclass
class Champion:
    """Who holds the alias under one rule, in all years, and what was promoted."""

    decide: Decide
    luck: Floats
    """(years, users): what stays."""
    true: Floats
    second: Floats
    """Mean luck on users who decide nothing."""
    reported: Floats
    """Mean luck on the night of its promotion."""
    false: Flags = field(init=False)
    since: Floats = field(init=False)
    """Nights until the first better challenger was promoted; infinite where none was."""

    def __post_init__(self) -> None:
        self.false, self.since = np.zeros(len(self.true), dtype=bool), np.full(len(self.true), np.inf)


def simulate(world: World, names: Sequence[str], seed: int = 0) -> dict[str, Champion]:
    """Return for each rule what became of its champions; all rules see the same challengers."""
    rng, n, years = np.random.default_rng(seed), world.users, world.years
    stays, redrawn = (world.spread * np.sqrt(share / 2) for share in (1 - world.redrawn, world.redrawn))

    def drawn(spread: float, busy: float = 1.0) -> Floats:
        values = rng.standard_normal((years, n), dtype=np.float32) * np.float32(spread / np.sqrt(busy))
        return values if busy == 1 else values * (rng.random((years, n), dtype=np.float32) < busy)

    def tonight() -> Floats:
        return drawn(redrawn, world.busy) if world.redrawn else np.zeros((years, n), dtype=np.float32)

    def trained() -> tuple[Floats, Floats, Floats]:
        second = rng.normal(0, world.spread / np.sqrt(2 * n), years)
        return drawn(stays), rng.normal(0, world.seeds, years), second

    luck, true, second = trained()
    champions = {
        name: Champion(RULES[name](years), luck.copy(), true.copy(), second.copy(), luck.mean(1)) for name in names
    }
    method = drawn(world.method)
    better_from = rng.integers(1, world.nights - WEEK + 2, years) if world.gain else np.full(years, world.nights + 1)
    for night in range(1, world.nights + 1):
        better = night >= better_from
        luck, true, second = trained()
        luck += better[:, None] * method
        true = true + better * world.gain
        own, other, noise = tonight(), tonight(), rng.normal(0, 1, years)
        for holder in champions.values():
            ahead = true - holder.true
            error = np.hypot(world.spread, better * np.isinf(holder.since) * world.method) / np.sqrt(n)
            differences = luck - holder.luck + (own - other) + ahead[:, None].astype(np.float32)
            won = holder.decide(Contest(night, differences, (ahead + error * noise, error)))
            holder.false |= won & (ahead <= 0)
            first = won & better & (ahead > 0) & np.isinf(holder.since)
            holder.since[first] = (night - better_from + 1)[first]
            holder.luck[won], holder.true[won], holder.second[won] = luck[won], true[won], second[won]
            holder.reported[won] = luck[won].mean(1) + own[won].mean(1)
    return champions


def rows(worlds: dict[str, World], names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table."""
    for label, world in worlds.items():
        for name, holder in simulate(world, names).items():
            late = np.median(holder.since)
            yield (
                label,
                name,
                f"{holder.false.mean():.1%}",
                f"{(holder.since <= WEEK).mean():.1%}" if world.gain else "",
                (f"{late:.0f}" if np.isfinite(late) else "never") if world.gain else "",
                f"{holder.reported.mean():+.2%}",
                f"{holder.second.mean():+.2%}",
            )


def main() -> None:
    """Print a table: rule and gain against errors, power, delay, and by how much the champion's value is overstated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=World.users, help="held-out users")
    parser.add_argument("--years", type=int, default=World.years)
    parser.add_argument("--gains", type=float, nargs="*", default=[0.03, 0.04, 0.05, 0.06])
    asked = parser.parse_args()
    began = time.perf_counter()
    plain = World(users=asked.users, years=asked.years)
    worlds = {
        "equal": plain,
        "equal, on data that stay": replace(plain, redrawn=0.0),
        "equal on average, seeds differ by 1 %": replace(plain, seeds=0.01),
    }
    worlds |= {f"{gain:+.0%} better": replace(plain, gain=gain) for gain in asked.gains}
    heads = ("challengers", "rule", "years with a false promotion", "promoted within 7 nights", "median nights")
    heads += ("champion's value too high by", "on a second set")
    print("| " + " | ".join(heads) + " |\n|---|---|--:|--:|--:|--:|--:|", flush=True)
    for row in rows(worlds, list(RULES)):
        print("| " + " | ".join(row) + " |", flush=True)
    print(f"\n{asked.users} users, {asked.years} years, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
