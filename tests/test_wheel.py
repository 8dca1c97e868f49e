"""The wheel in an environment of its own: two commands lead from a shop's files to lists, without the checkout."""

import os
import re
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from tests.shop import write_shop

ROOT = Path(__file__).parents[1]
pytest.importorskip("hatchling", reason="builds the wheel")
pytestmark = pytest.mark.skipif(not (ROOT / "recsys").is_dir(), reason="the package's source is not here")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A Python that has the wheel, and what it needs from here, but for the package itself."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    needed = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "needed.pth").write_text("\n".join(needed))  # their own .pth, such as one of the checkout, are not read
    with zipfile.ZipFile(wheel) as package:
        package.extractall(site)
    return python


def call(python, folder, *command):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-m", "recsys", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def lists_by_two_commands(python, folder, user):
    """Make lists as the README says; return them, what was printed for the user, and the seconds."""
    began = time.perf_counter()
    call(python, folder, "run", "events.csv", "--items", "items.csv", "--output", "tonight", "--quiet")
    shown = call(python, folder, "recommend", "models:/events@champion", "--user", user)
    return pd.read_parquet(folder / "tonight"), shown, time.perf_counter() - began


def test_the_package_is_that_of_the_wheel(python, tmp_path):
    where = subprocess.run(
        [python, "-c", "import recsys; print(recsys.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not Path(where.stdout.strip()).is_relative_to(ROOT)


def test_two_commands_from_a_table_to_lists(python, tmp_path):
    write_shop(tmp_path, users=200, items=80, rows=4_000)
    lists, shown, _ = lists_by_two_commands(python, tmp_path, "000017")
    assert lists.user_id.nunique() == 200
    for title in lists[lists.user_id == "000017"].title:
        assert title in shown


@pytest.mark.slow
def test_a_hundred_thousand_events_take_less_than_five_minutes(python, tmp_path):
    write_shop(tmp_path, users=5_000, items=1_500, rows=100_000)
    lists, shown, seconds = lists_by_two_commands(python, tmp_path, "000017")
    assert lists.user_id.nunique() == 5_000
    titles = lists[lists.user_id == "000017"].title
    assert len(titles) == 10
    assert all(title in shown for title in titles)
    assert seconds < 300


def test_templates_are_in_the_wheel(python, tmp_path):
    listed = call(python, tmp_path, "templates")
    files = sorted((ROOT / "pipelines" / "configs").rglob("*.toml"))
    assert len(listed.splitlines()) == len(files) > 60
    call(python, tmp_path, "templates", "multvae-ml1m")
    assert (tmp_path / "multvae-ml1m.toml").read_bytes() == (ROOT / "pipelines/configs/multvae-ml1m.toml").read_bytes()


def test_the_description_has_no_link_into_the_repository(wheel):
    with zipfile.ZipFile(wheel) as package:
        (name,) = [name for name in package.namelist() if name.endswith("METADATA")]
        text = package.read(name).decode()
    assert "# recsys" in text
    assert "](http" in text
    assert not re.findall(r"\]\((?!https?:)[^)]*\)", text)
    assert "<!--" not in text
