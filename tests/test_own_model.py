"""A model of a user's own, as CONTRIBUTING.md has it: outside the package through every job, inside in three steps."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(name):
    """The code block after a marker such as <!-- model -->."""
    (found,) = re.findall(rf"<!-- {name} -->\n```\w*\n(.*?)```", TEXT, flags=re.DOTALL)
    return found


def python(code, folder):
    """Run code in a process of its own, in a folder."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


COMMANDS = """
import sys
from recsys.cli import main
from recsys.models import MODELS

assert "CoCounts" not in MODELS
small = ["--quiet", "--set=data.users=800", "--set=data.items=200", "--set=data.interactions=20000"]
for command in (
    ["train", "co-counts.toml", *small],
    ["tune", "tuned.toml", *small],
    ["compare", "co-counts.toml", "popularity.toml", "--output", "compared", *small],
    ["nightly", "night.toml", *small],
    ["promote", "co-counts", "--version", "1", "--import", "my_models"],
    ["score", "models:/co-counts@champion", "--output", "scored", "--import", "my_models", "--quiet"],
    ["evaluate", "models:/co-counts/1", "--report", "report.html", "--import", "my_models", "--quiet"],
):
    assert main(command) == 0, command
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the user's module and configurations, in which every job has been run."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_models.py").write_text(block("model"), encoding="utf-8")
    configuration = block("configuration")
    (folder / "co-counts.toml").write_text(configuration)
    searched = '[tune]\ntrials = 2\nsampler = "random"\n[tune.space]\nshrink = {low = 1.0, high = 50.0}\n'
    (folder / "tuned.toml").write_text(configuration + searched)
    popularity = configuration.replace('import = "my_models"\n', "").replace("CoCounts", "Popularity")
    (folder / "popularity.toml").write_text(popularity.replace("shrink = 5.0\n", ""))
    stable = "[split]\nn_users = 0.2\nstable = true\n[promote]\nslowdown = 1000.0\n"
    (folder / "night.toml").write_text(configuration.replace('"co-counts"', '"night"') + stable)
    return folder, python(COMMANDS, folder)


def logged(folder):
    """The folder of a logged CoCounts; other models are logged beside it."""
    configs = folder.rglob("artifacts/bundle/config.json")
    return next(file.parents[2] for file in configs if json.loads(file.read_text())["model"] == "CoCounts")


def test_every_job_takes_it(project):
    folder, printed = project
    assert "models:/co-counts/1" in printed
    assert "CoCounts" in (folder / "compared" / "table.md").read_text()
    assert json.loads((folder / "mlruns" / "nightly" / "night.json").read_text())["status"] == "promoted"
    assert len(pd.read_parquet(folder / "scored")) > 0
    assert "<h1>CoCounts on synthetic</h1>" in (folder / "report.html").read_text()


def test_loading_it_says_what_to_import_and_imports_nothing(project):
    folder, _ = project
    bundle = logged(folder) / "artifacts" / "bundle"
    code = f"""
import sys, recsys
try:
    recsys.load({str(bundle)!r})
except recsys.errors.BundleError as error:
    assert "import my_models" in str(error), error
else:
    raise AssertionError("loaded")
assert "my_models" not in sys.modules
import my_models
assert type(recsys.load({str(bundle)!r})) is my_models.CoCounts
"""
    python(code, folder)


def test_mlflow_serves_it_with_the_module_logged_beside_it(project, tmp_path):
    folder, _ = project
    copied = tmp_path / "served"
    shutil.copytree(logged(folder), copied)
    assert (copied / "code" / "my_models.py").is_file()
    code = f"""
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model({str(copied)!r})
found = model.predict(pd.DataFrame({{"user_id": ["new"], "items": [["1", "2"]]}}), {{"n": 3}})
assert len(found["items"][0]) == 3, found
"""
    python(code, tmp_path)


def test_inside_the_package_it_takes_a_file_a_configuration_and_a_line(tmp_path):
    copy = tmp_path / "recsys-copy"
    for part in ("recsys", "tests", "pipelines", "docs"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, copy)
    (copy / "recsys" / "models" / "co_counts.py").write_text(block("model"), encoding="utf-8")
    configuration = block("configuration").replace('import = "my_models"\n', "")
    (copy / "pipelines" / "configs" / "cocounts-demo.toml").write_text(configuration)
    cases = copy / "tests" / "contract.py"
    text = cases.read_text(encoding="utf-8")
    line = '    "EASE": {'
    assert text.count(line) == 1
    cases.write_text(text.replace(line, block("contract") + line), encoding="utf-8")
    code = f"""
import sys
import pytest
sys.path.insert(0, {str(copy)!r})
import recsys
from recsys.config import load_config

assert recsys.__file__.startswith({str(copy)!r}), recsys.__file__
assert "CoCounts" in dir(recsys)
assert load_config("pipelines/configs/cocounts-demo.toml").new_model().shrink == 5.0
asked = ["tests/models/test_contract.py", "-k", "CoCounts or every_model_is_tested"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *asked]))
"""
    printed = python(code, copy)
    assert " passed" in printed or "100%" in printed
