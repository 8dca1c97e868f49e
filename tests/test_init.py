"""The names of the package itself, beside those that test_architecture.py checks."""

import subprocess
import sys
from importlib.metadata import version

import recsys


def test_the_version_is_that_of_the_distribution():
    assert recsys.__version__ == version("recsys")


def test_modules_are_attributes_and_wait_to_be_asked_for():
    code = (
        "import sys, recsys; assert 'recsys.errors' not in sys.modules; recsys.__version__; recsys.errors.DataError; "
        "assert 'torch' not in sys.modules; recsys.report.learning_curve"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
