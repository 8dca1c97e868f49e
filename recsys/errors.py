"""Exceptions and warnings; each message says what was expected, what was given and what to do."""

import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum
from typing import TypeVar


class Exit(IntEnum):
    """With what a command ends; 1 is a fault of this package, with a traceback."""

    DONE = 0
    USAGE = 2
    DATA = 3
    NOT_FOUND = 4
    SERVER = 5
    REFUSED = 6
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """What happened, for the documentation."""
        return _MEANINGS[self.name]


_MEANINGS = {
    "DONE": "all was done",
    "USAGE": "the command or its configuration is wrong, or asks for what the model or this installation cannot do",
    "DATA": "data, a saved model or an output cannot be used, read or written; or a training or scoring cannot go on",
    "NOT_FOUND": "a named file, configuration, data set, model, version, user or item is not there",
    "SERVER": "the tracking server, the store or a download does not answer, or refuses",
    "REFUSED": "all was done, but a model was not registered or scored with, because it is no better than the baseline",
    "INTERRUPTED": "Ctrl-C",
    "TERMINATED": "SIGTERM",
}


class RecsysError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code: Exit = Exit.USAGE
    """With what a command ends that this error ends."""


class DataError(RecsysError, ValueError):
    """A table, matrix or file of interactions cannot be used as it is."""

    exit_code = Exit.DATA


class UnknownIdError(RecsysError, LookupError):
    """An external user or item id is not in the map it was looked up in."""

    exit_code = Exit.NOT_FOUND


class OutOfRangeError(RecsysError, IndexError):
    """An internal index lies outside `0..n-1`."""


class ConfigError(RecsysError, ValueError):
    """A hyperparameter, option or configuration file is not valid."""


class OutputError(ConfigError):
    """What a command or a job was told to write cannot be written there."""

    exit_code = Exit.DATA


class NotFittedError(RecsysError, RuntimeError):
    """A model was used before `fit`."""


class UnsupportedError(RecsysError, NotImplementedError):
    """The operation is not defined for this model; the message names what to use instead."""


class TrainingError(RecsysError, RuntimeError):
    """Training cannot continue, for instance because the loss is not finite."""

    exit_code = Exit.DATA


class PeerEnded(TrainingError):
    """Another of the processes that train together has ended, so that this one cannot go on."""


class BundleError(RecsysError, ValueError):
    """A saved model is missing, damaged, of another class or of a newer format."""

    exit_code = Exit.DATA


class DownloadError(RecsysError, OSError):
    """A data set could not be downloaded or does not match its checksum."""

    exit_code = Exit.SERVER


class TrackingError(RecsysError, RuntimeError):
    """The experiment store or the model registry refused an operation."""

    exit_code = Exit.SERVER


class TrackingUnavailable(TrackingError):
    """The experiment store or the model registry does not answer; the same operation may succeed later."""


class RegistrationRefused(RecsysError, RuntimeError):
    """A model was trained and logged and is not registered, because it is worse than the baseline."""

    exit_code = Exit.REFUSED


class ScoringError(RecsysError, RuntimeError):
    """A batch scoring job cannot run or cannot write its output."""

    exit_code = Exit.DATA


class DataWarning(UserWarning):
    """Data were read or matched in a way that may not be what was meant; the result holds for what the text says."""


def warn(message: str) -> None:
    """Give a `DataWarning` that names the line outside this package whose call led to it."""
    package, level, frame = __name__.partition(".")[0], 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, DataWarning, stacklevel=level)


_E = TypeVar("_E", bound=RecsysError)


def absent(error: _E) -> _E:
    """Return an error that says that something named is not there; the exit code of a command says so too."""
    error.exit_code = Exit.NOT_FOUND
    return error


def refused(error: _E) -> _E:
    """Return an error that says that a model has not earned its place; the exit code of a command says so too."""
    error.exit_code = Exit.REFUSED
    return error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or the list of known names."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
