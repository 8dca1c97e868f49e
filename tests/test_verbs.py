"""Whatever is passed to a verb of a model: the right result, or the package's own error that says what to pass."""

import warnings
from zlib import crc32

import pytest

from recsys.errors import DataWarning
from recsys.models import MODELS
from tests.verbs import Caller, model

QUICK = ["EASE", "SANSA", "InfiniteAE", "ItemKNN", "ALS", "Popularity", "UAutoRec", "IAutoRec", "MultVAE", "CDAE"]


def called(name, calls, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return Caller(model(name), seed + crc32(name.encode())).run(calls)  # other calls for each model


@pytest.mark.parametrize("name", QUICK)
def test_arguments_of_every_kind_are_taken_right_or_refused_with_the_reason(name):
    caller = called(name, 150, seed=1)
    assert not caller.faults, "\n".join(caller.faults[:5])
    assert min(caller.refused, caller.lists) > 10  # both happened


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_many_calls_of_every_model(name):
    caller = called(name, 600, seed=2)
    assert not caller.faults, f"{len(caller.faults)} of {caller.called} calls\n" + "\n".join(caller.faults[:5])
