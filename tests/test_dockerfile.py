"""The container of the night: what its Dockerfile names exists, and what it copies is enough for the wheel."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from recsys.cli import parser

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "recsys").is_dir(), reason="the package's source is not here")
FILE = ROOT / "pipelines" / "Dockerfile"
TEXT = FILE.read_text(encoding="utf-8")
LINES = re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", " ").splitlines()


def said(instruction):
    """The arguments of an instruction, in the order of the file."""
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{instruction} ")]


def sources():
    """What is copied from the repository."""
    return [name for line in said("COPY") for name in line.split()[:-1]]


def test_copied_files_exist_and_are_sent_to_the_builder():
    sent = (ROOT / "pipelines" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in sent
    for name in sources():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in sent, name
    assert sorted(f"!{name}" for name in sources()) == sorted(line for line in sent if line.startswith("!"))


def test_the_copied_files_make_the_wheel(tmp_path):
    pytest.importorskip("hatchling", reason="builds the wheel")
    for name in sources():
        place = tmp_path / "build" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place)
    made = []
    for folder in (tmp_path / "build", ROOT):
        wheel = tmp_path / f"wheel-{len(made)}"
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheel)]
        subprocess.run(build, cwd=folder, check=True, capture_output=True)
        (file,) = wheel.glob("*.whl")
        with zipfile.ZipFile(file) as package:
            made.append(sorted(package.namelist()))
    assert made[0] == made[1]


def test_the_command_is_one_of_recsys():
    program, *first = json.loads(said("ENTRYPOINT")[0])
    (command,) = said("CMD")
    assert program == "recsys"
    found = parser().parse_args([*first, *json.loads(command)])
    assert str(found.config) == "night.toml"


def test_versions_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = {re.search(r"python:(3\.\d+)-slim", line)[1] for line in said("FROM")}
    assert len(versions) == 1
    assert f"Programming Language :: Python :: {versions.pop()}" in project["classifiers"]
    (torch,) = re.findall(r"torch==([\d.]+)", TEXT)
    assert f"torch=={torch}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_it_runs_without_rights_and_keeps_what_the_night_writes():
    assert said("USER") == ["1000"]
    assert LINES.index("USER 1000") > max(place for place, line in enumerate(LINES) if line.startswith("RUN"))
    (made,) = [line for line in said("RUN") if "useradd" in line]
    assert "--uid 1000 " in made
    for folder in json.loads(said("VOLUME")[0]):
        assert folder in made, "a volume takes the owner of the folder in its place"


@pytest.mark.parametrize("line", said("RUN"))
def test_what_it_runs_is_a_script(line):
    shell = shutil.which("sh")
    subprocess.run([shell, "-n", "-c", re.sub(r"^--mount=\S+", "", line)], check=True, capture_output=True)
