"""Optional dependencies: what is missing is named, with the command that installs it."""

import pytest

from recsys.errors import ConfigError
from recsys.extras import check_installed


def test_what_is_installed_passes():
    check_installed("anything", "numpy", "pandas", extra="tune")


def test_a_missing_distribution_is_named_with_its_extra():
    with pytest.raises(ConfigError, match=r"^flying needs no-wings: pip install 'recsys\[air\]'$"):
        check_installed("flying", "numpy", "no-wings", extra="air")


def test_several_are_installed_by_name_where_there_is_no_extra():
    with pytest.raises(ConfigError, match=r"^flying needs no-wings and no-tail: pip install no-wings no-tail$"):
        check_installed("flying", "no-wings", "no-tail")


def test_a_name_is_looked_up_with_underscores():
    check_installed("writing TOML", "annotated-types")
