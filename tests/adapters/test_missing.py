"""Where RecTools or LensKit is missing, what needs it says how to install it."""

import pytest

import recsys
from recsys import adapters


@pytest.mark.parametrize(
    ("function", "library"),
    [
        (adapters.to_rectools, "rectools"),
        (adapters.from_rectools, "rectools"),
        (adapters.to_lenskit, "lenskit"),
        (adapters.from_lenskit, "lenskit"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(function, library, monkeypatch):
    monkeypatch.setattr("recsys.extras.find_spec", lambda name: None)
    with pytest.raises(recsys.errors.ConfigError, match=rf"needs {library}: pip install 'recsys\[{library}\]'"):
        function(recsys.EASE())
