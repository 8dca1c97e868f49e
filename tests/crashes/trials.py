"""A job, stopped at its steps and run again; or met by an error there."""

from __future__ import annotations

import errno
import pickle
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from tests.crashes import forks
from tests.crashes.boxes import Box, Tree, digest_of
from tests.crashes.jobs import Job, Setups, arguments
from tests.crashes.recorder import Fault, Record, Recording, Step, can_fail
from tests.crashes.state import Difference, State, collect, difference

FAULTS = {"ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES}


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

    def __init__(self, box: Box, setups: Setups, job: Job) -> None:
        self.box, self.job = box, job
        self.arguments = arguments(box, job.arguments)
        self.before = setups.tree(job.setup)
        self.once, self.seconds = self._undisturbed(self.before)
        self.status = 0
        self._after = self.box.capture()
        self._twice: State | None = None
        self._record: Record | None = None

    @property
    def twice(self) -> State:
        """What two undisturbed jobs leave, one after the other: right where a job had ended before it was stopped."""
        if self._twice is None:
            self.box.put_back(self._after)
            forks.run(self.box, self.arguments)
            self._twice = self.found()
        return self._twice

    @property
    def record(self) -> Record:
        """The steps of the job."""
        if self._record is None:
            self.box.put_back(self.before)
            file = self.box.base / "record"
            ended = forks.run(self.box, self.arguments, Recording(self.box, str(file)))
            if ended.status:
                raise RuntimeError(f"{self.job.name} ended with {ended.status} while it was recorded: {ended.err}")
            with file.open("rb") as stored:
                self._record = pickle.load(stored)
        return self._record

    def found(self) -> State:
        """Return what is in the box now."""
        return collect(self.box)

    def _undisturbed(self, tree: Tree) -> tuple[State, float]:
        self.box.put_back(tree)
        ended = forks.run(self.box, self.arguments)
        if ended.status:
            raise RuntimeError(f"{self.job.name} ended with {ended.status}: {ended.err}")
        return self.found(), ended.seconds

    def killed(self, tree: Tree) -> tuple[str, tuple[str, ...]] | None:
        """Run the job again on what a kill has left; return what is wrong then."""
        self.box.put_back(tree)
        complete = not difference(_facts(self.once), _facts(self.found()))
        twice = self.twice if complete else None
        self.box.put_back(tree)
        ended = forks.run(self.box, self.arguments)
        if twice is not None and not difference(twice, self.found()):
            return None
        if ended.hung:
            return "hangs", (f"no end after {forks.PATIENCE:.0f} s",)
        if ended.status:
            return f"exit {ended.status}", tuple(ended.err.strip().splitlines()[-3:])
        wrong = _wrong(difference(self.once, self.found()))
        return wrong and (wrong[0], (*wrong[1], *ended.err.strip().splitlines()[-1:]))

    def met(self, step: Step, code: int) -> tuple[str, tuple[str, ...]] | None:
        """Run the job with an error at a step, then undisturbed; return what is wrong then."""
        self.box.put_back(self.before)
        file = self.box.base / "fault"
        file.unlink(missing_ok=True)
        ended = forks.run(self.box, self.arguments, Fault(self.box, step.number, code, str(file)))
        lines = [line for line in ended.err.splitlines() if line.strip()]
        if ended.hung:
            return "hangs", (f"no end after {forks.PATIENCE:.0f} s",)
        if ended.status not in (0, 2):
            return f"exit {ended.status} at the error", tuple(lines[-3:])
        if "Traceback" in ended.err or len(lines) > 3:
            return "more than a line of error", tuple(lines[:2] + lines[-2:])
        if not ended.status:
            if not difference(self.once, self.found()):
                return None
            if not any((self.box.path / "root" / "mlruns" / "pending").glob("*")):
                kind, detail = _wrong(difference(self.once, self.found())) or ("", ())
                return f"success, but {kind}", (*detail, *lines)
            again = forks.run(self.box, arguments(self.box, ("sync",)))
        else:
            if not lines:
                return "no line of error", ()
            again = forks.run(self.box, self.arguments)
            if not again.status and any((self.box.path / "root" / "mlruns" / "pending").glob("*")):
                again = forks.run(self.box, arguments(self.box, ("sync",)))
        found = self.found()
        left = difference(self.once, found, with_failed=True)
        if (left or again.status) and ended.status and not difference(self.twice, found, with_failed=True):
            return None
        if again.status:
            return f"exit {again.status} afterwards", tuple(again.err.strip().splitlines()[-3:])
        return _wrong(left)


def _facts(state: State) -> State:
    """Return a state without its list of paths: what tells whether a job had ended."""
    return State(Counter({line: n for line, n in state.lines.items() if not line.startswith(("path ", "temporary "))}))


def _wrong(left: Difference) -> tuple[str, tuple[str, ...]] | None:
    if not left:
        return None
    rest = len(left.missing) + len(left.extra) - 4
    return left.kinds[0], (*left.first(4), *([f"and {rest} more lines"] if rest > 0 else []))


def cases(record: Record, *, thin: bool) -> list[Case]:
    """Return the distinct states that kills leave; with `thin`, of many alike the first, one between and the last."""
    seen = set[str]()
    found = []
    for step in record.steps:
        for text, state in (("", step.state), *step.torn):
            if state not in seen:
                seen.add(state)
                found.append(Case(step.number, f"before {step.text}" + (f", {text}" if text else ""), state))
    return list(_thinned(found)) if thin else found


def steps(record: Record, code: int, *, thin: bool) -> list[Step]:
    """Return the steps that can meet an error."""
    found = [step for step in record.steps if can_fail(step, code)]
    return list(_thinned(found)) if thin else found


def _thinned(given: Sequence) -> Iterator:
    for alike, group in groupby(given, lambda case: _place(case.text)):
        members = list(group)
        kept = {0, len(members) // 2, len(members) - 1} if alike else range(len(members))
        yield from (members[place] for place in sorted(kept))


def _place(text: str) -> str:
    """Return what steps have in common that copy, or remove, the source files of a logged model; else nothing."""
    return "code" if "/code" in text else ""


def try_kills(bench: Bench, chosen: Sequence[Case], outcome: Outcome) -> None:
    """Stop the job at each of the cases."""
    for case in chosen:
        wrong = bench.killed(bench.record.tree(case.state))
        outcome.tried += 1
        if wrong is not None:
            outcome.failures.append(Failure(case, *wrong))


def try_faults(bench: Bench, chosen: Sequence[Step], code: int, outcome: Outcome) -> None:
    """Let the job meet an error at each of the steps."""
    for step in chosen:
        wrong = bench.met(step, code)
        outcome.tried += 1
        if wrong is not None:
            outcome.failures.append(Failure(Case(step.number, f"at {step.text}"), *wrong))


def run(
    bench: Bench,
    fault: str,
    *,
    every: int = 1,
    thin: bool = True,
    sample: int | None = None,
    only: Sequence[int] = (),
    seed: int = 0,
) -> Outcome:
    """Try the cases of a job.

    Args:
        fault: `kill`, or the error.
        every: take only each so many.
        thin: leave most of the copying of source files out.
        sample: take that many at random.
        only: take the cases of these steps.
    """
    began, record = time.monotonic(), bench.record
    outcome = Outcome(bench.job.name, fault, len(record.steps), undisturbed=bench.seconds)
    outcome.states = len({step.state for step in record.steps})
    given: list = cases(record, thin=thin) if fault == "kill" else steps(record, FAULTS[fault], thin=thin)
    number = (lambda case: case.step) if fault == "kill" else (lambda step: step.number)
    chosen = [case for case in given if number(case) in only] if only else given[:: max(1, every)]
    if sample is not None and sample < len(chosen):
        places = sorted(random.Random(f"{seed} {bench.job.name} {fault}").sample(range(len(chosen)), sample))
        chosen = [chosen[place] for place in places]
    if fault == "kill":
        outcome.states = len(cases(record, thin=False))
        try_kills(bench, chosen, outcome)
    else:
        try_faults(bench, chosen, FAULTS[fault], outcome)
    outcome.notes += [f"outside the box: {text}" for text in dict.fromkeys(record.outside)]
    outcome.notes += [
        f"temporary files of {place}: left by a kill at {len(at)} steps" for place, at in record.ours.items()
    ]
    outcome.seconds = time.monotonic() - began
    return outcome


__all__ = ["Bench", "Case", "Failure", "Outcome", "cases", "digest_of", "run"]
