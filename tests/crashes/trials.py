"""A job, stopped at its steps and run again; or met by an error there."""

from __future__ import annotations

import pickle
import random
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from recsys.errors import Exit
from tests.crashes import forks
from tests.crashes.boxes import Box, Tree
from tests.crashes.jobs import Job, Setups, arguments
from tests.crashes.recorder import Fault, Record, Recording, Reservoir, Step, can_fail, plain
from tests.crashes.state import Difference, State, collect, difference


@dataclass(frozen=True)
class Case:
    """A moment at which a job is stopped."""

    step: int
    text: str
    state: str = ""
    """Digest of what is left then; empty for errors."""

    @property
    def name(self) -> str:
        """How to ask for it again."""
        return str(self.step)


@dataclass(frozen=True)
class Failure:
    """A case that did not end as an undisturbed job."""

    case: Case
    kind: str
    detail: tuple[str, ...]


@dataclass
class Outcome:
    """What became of a job's cases."""

    job: str
    fault: str
    steps: int = 0
    states: int = 0
    tried: int = 0
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    undisturbed: float = 0.0

    @property
    def by_kind(self) -> Counter[str]:
        """How many failures of each kind there are."""
        return Counter(failure.kind for failure in self.failures)


class Bench:
    """A job with its undisturbed results, and the trials of its cases."""

    def __init__(self, box: Box, setups: Setups, job: Job, sample: Reservoir | None = None) -> None:
        """`sample` chooses steps of the undisturbed job that get a snapshot at once."""
        self.box, self.job = box, job
        self.arguments = arguments(box, job.arguments)
        self.before = setups.tree(job.setup)
        self.steps, self.seconds = self._recorded((), sample)
        """The steps of the job, without snapshots but for those of the sample, and its duration."""
        self.once = self.found()
        """What the job leaves if nothing disturbs it."""
        self._after = self.box.capture()
        self._twice: State | None = None

    @property
    def twice(self) -> State:
        """What two undisturbed jobs leave, one after the other: right where a job had ended before it was stopped."""
        if self._twice is None:
            self.box.put_back(self._after)
            forks.run(self.box, self.arguments)
            self._twice = self.found()
        return self._twice

    def record(self, only: Collection[int] | None = None) -> Record:
        """Return the steps of the job with snapshots, of only these steps or of all."""
        return self._recorded(only, None)[0]

    def _recorded(self, only: Collection[int] | None, sample: Reservoir | None) -> tuple[Record, float]:
        self.box.put_back(self.before)
        file = self.box.base / "record"
        ended = forks.run(self.box, self.arguments, Recording(self.box, str(file), only, sample))
        if ended.status:
            raise RuntimeError(f"{self.job.name} ended with {ended.status}: {ended.err}")
        with file.open("rb") as stored:
            return pickle.load(stored), ended.seconds

    def found(self) -> State:
        """Return what is in the box now."""
        return collect(self.box)

    def repeated(self) -> tuple[str, tuple[str, ...]] | None:
        """Run the job undisturbed once more; return what differs, which is no fault of a crash."""
        self.box.put_back(self.before)
        forks.run(self.box, self.arguments)
        return wrong(difference(self.once, self.found()))

    def killed(self, tree: Tree) -> tuple[str, tuple[str, ...]] | None:
        """Run the job again on what a kill has left; return what is wrong then."""
        self.box.put_back(tree)
        complete = not difference(facts(self.once), facts(self.found()))
        twice = self.twice if complete else None
        self.box.put_back(tree)
        ended = forks.run(self.box, self.arguments)
        if ended.hung:
            return "hangs", (f"no end after {forks.PATIENCE:.0f} s",)
        found = self.found()
        if twice is not None:
            return min((wrong(difference(state, found)) for state in (twice, self.once)), key=bool)
        if ended.status:
            return f"exit {ended.status}", tuple(ended.err.strip().splitlines()[-3:])
        verdict = wrong(difference(self.once, found))
        if verdict and self._waiting:
            return "reports wait", tuple(self._sync().err.strip().splitlines()[-1:])
        return verdict and (verdict[0], (*verdict[1], *ended.err.strip().splitlines()[-1:]))

    def met(self, step: Step, fault: str) -> tuple[str, tuple[str, ...]] | None:
        """Run the job with an error at a step, then undisturbed; return what is wrong then."""
        self.box.put_back(self.before)
        file = self.box.base / "fault"
        file.unlink(missing_ok=True)
        ended = forks.run(self.box, self.arguments, Fault(self.box, step.number, fault, str(file)))
        lines = [line for line in ended.err.splitlines() if line.strip()]
        if ended.hung:
            return "hangs", (f"no end after {forks.PATIENCE:.0f} s",)
        if ended.status not in (Exit.DONE, Exit.USAGE, Exit.DATA, Exit.NOT_FOUND, Exit.SERVER):
            return f"exit {ended.status} at the error", tuple(lines[-3:])
        verdict = self._after_failure() if ended.status else self._after_success(lines)
        return verdict or _wrong_words(ended.status, lines)

    @property
    def place(self) -> str:
        """Where the last error was raised; empty where the step was not reached."""
        file = self.box.base / "fault"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def _after_success(self, lines: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
        """Judge a job that has ended well although it met an error; what it could not send is sent now."""
        if self._waiting:
            self._sync()
        left = difference(self.once, self.found())
        if left.of_paths_alone:  # what could not be removed is removed by the next command
            twice = self.twice_from(self.box.capture())
            left = left and difference(twice, self.found())
        verdict = wrong(left)
        return verdict and (f"success, but {verdict[0]}", (*verdict[1], *lines[-1:]))

    def _after_failure(self) -> tuple[str, tuple[str, ...]] | None:
        """Judge a job that has ended with an error, by what the same command leaves now."""
        again = forks.run(self.box, self.arguments)
        if not again.status and self._waiting:
            self._sync()
        found = self.found()
        left = difference(self.once, found, with_failed=True)
        if (left or again.status) and not difference(self.twice, found, with_failed=True):
            return None
        if again.status:
            return f"exit {again.status} afterwards", tuple(again.err.strip().splitlines()[-3:])
        return wrong(left)

    def twice_from(self, tree: Tree) -> State:
        """Run the job on this box, and return what two undisturbed jobs leave."""
        twice = self.twice
        self.box.put_back(tree)
        forks.run(self.box, self.arguments)
        return twice

    @property
    def _waiting(self) -> bool:
        return any((self.box.path / "root" / "mlruns" / "pending").glob("*"))

    def _sync(self) -> forks.Ended:
        return forks.run(self.box, arguments(self.box, ("sync",)))


def _wrong_words(status: int, lines: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Judge what a command with this exit status says on standard error."""
    if any("Traceback" in line for line in lines):
        return "a traceback", (lines[0], *lines[-2:])
    if len(lines) > 3:
        return "more than a line of error", (lines[0], lines[-1])
    return ("no line of error", ()) if status and not lines else None


def facts(state: State) -> State:
    """Return a state without its list of paths: what tells whether a job had ended."""
    return State(Counter({line: n for line, n in state.lines.items() if not line.startswith(("path ", "temporary "))}))


def wrong(left: Difference) -> tuple[str, tuple[str, ...]] | None:
    if not left:
        return None
    rest = len(left.missing) + len(left.extra) - 4
    return left.kinds[0], (*left.first(4), *([f"and {rest} more lines"] if rest > 0 else []))


def cases(steps: Sequence[Step]) -> list[Case]:
    """Return the distinct states that kills leave."""
    seen = {""}
    found = []
    for step in steps:
        for text, state in (("", step.state), *step.torn):
            if state not in seen:
                seen.add(state)
                found.append(Case(step.number, f"before {step.text}" + (f", {text}" if text else ""), state))
    return found


def thinned(given: Sequence[Any]) -> list[Any]:
    """Return the cases, of those that copy or remove one by one the source files of a model only three."""
    kept: list[Any] = []
    for alike, group in groupby(given, lambda case: "/code" in case.text):
        members = list(group)
        places = {0, len(members) // 2, len(members) - 1} if alike else range(len(members))
        kept += [members[place] for place in sorted(places)]
    return kept


@dataclass(frozen=True)
class Choice:
    """Which cases of a job are tried."""

    every: int = 1
    """Only each so many."""
    thin: bool = True
    """Leave most of the copying of source files out."""
    distinct: bool = False
    """Of steps that do the same at the same place, only the first."""
    sample: int | None = None
    """So many steps at random."""
    only: tuple[int, ...] = ()
    """The cases of these steps."""
    seed: int = 0

    def steps(self, given: Sequence[Step], name: str) -> list[Step]:
        """Choose among steps; `name` makes choices of several jobs different ones."""
        if self.only:
            return [step for step in given if step.number in self.only]
        chosen = thinned(given) if self.thin else list(given)
        if self.distinct:
            chosen = list({plain(step.text): step for step in reversed(chosen)}.values())[::-1]
        if self.sample is not None and self.sample < len(chosen):
            places = random.Random(f"{self.seed} {name}").sample(range(len(chosen)), self.sample)
            return [chosen[place] for place in sorted(places)]
        return chosen[:: max(1, self.every)]


def _note(outcome: Outcome, total: int, case: Case, verdict: tuple[str, tuple[str, ...]] | None) -> None:
    """Count a case, and tell standard error of failures as they come and of every hundredth case."""
    outcome.tried += 1
    if verdict is not None:
        outcome.failures.append(Failure(case, *verdict))
    if verdict is not None or outcome.tried % 100 == 0:
        what = (
            "" if verdict is None else f": step {case.step}, {case.text}: {verdict[0]}; {'; '.join(verdict[1])[:300]}"
        )
        print(f"{outcome.job} ({outcome.fault}): {outcome.tried} of {total}{what}", file=sys.stderr, flush=True)


def try_kills(bench: Bench, choice: Choice, outcome: Outcome) -> None:
    """Stop the job at its steps and run it again."""
    if choice.sample is not None:
        record = bench.steps
        chosen = [random.Random(f"{choice.seed} {step.number}").choice(cases([step])) for step in record.sampled]
    elif choice.only:
        record = bench.record(choice.only)
        chosen = cases(record.steps)
    else:
        record = bench.record()
        chosen = cases(record.steps)
    outcome.states = len(chosen)
    if choice.sample is None and not choice.only:
        chosen = (thinned(chosen) if choice.thin else chosen)[:: max(1, choice.every)]
    for case in chosen:
        _note(outcome, len(chosen), case, bench.killed(record.tree(case.state)))


def try_faults(bench: Bench, fault: str, choice: Choice, outcome: Outcome) -> None:
    """Let the job meet an error at its steps."""
    others = 0
    chosen = choice.steps([step for step in bench.steps.steps if can_fail(step, fault)], bench.job.name)
    for step in chosen:
        verdict = bench.met(step, fault)
        others += plain(bench.place) != plain(step.text)
        _note(outcome, len(chosen), Case(step.number, f"at {bench.place}"), verdict)
    if others:
        outcome.notes.append(f"{others} steps were not those of that number in the undisturbed job")


def run(bench: Bench, fault: str, choice: Choice) -> Outcome:
    """Try the cases of a job: `kill`, the error of that name, or `none`, which shows whether jobs can be compared."""
    began, record = time.monotonic(), bench.steps
    outcome = Outcome(bench.job.name, fault, len(record.steps), undisturbed=bench.seconds)
    if fault == "none":
        outcome.tried, verdict = 1, bench.repeated()
        outcome.failures += [] if verdict is None else [Failure(Case(0, "undisturbed"), *verdict)]
    elif fault == "kill":
        try_kills(bench, choice, outcome)
        outcome.notes += [
            f"temporary files of {place}: left by a kill at {len(steps)} steps" for place, steps in record.ours.items()
        ]
    else:
        try_faults(bench, fault, choice, outcome)
    outcome.notes += [f"outside the box: {text}" for text in dict.fromkeys(record.outside)]
    outcome.seconds = time.monotonic() - began
    return outcome
