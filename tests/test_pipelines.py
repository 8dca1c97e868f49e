"""The scripts in pipelines/ and the entry points of MLproject: commands that exist, with files that are there."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from mlflow.projects.utils import load_project

from recsys import cli
from recsys.config import load_config

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "pipelines").glob("*.py"))
COMMAND = {"main": "nightly", "train": "train"}


@pytest.fixture
def asked(monkeypatch):
    """What a script asks of the command line, by the words after its name."""
    monkeypatch.chdir(ROOT)

    def ask(script, words):
        found = []
        monkeypatch.setattr(cli, "main", lambda words: found.append(cli.parser().parse_args(words)))
        monkeypatch.setattr(sys, "argv", [str(script), *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        assert not ended.value.code
        (arguments,) = found
        files = [getattr(arguments, "config", None), *getattr(arguments, "configs", [])]
        return arguments.chosen.name, [file for file in files if file is not None]

    return ask


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_does_what_its_first_lines_say(script, asked):
    (usage,) = re.findall(rf"^python pipelines/{script.name}(.*)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    words = [word for text in shlex.split(usage) for word in sorted(map(str, Path().glob(text))) or [text]]
    command, files = asked(script, words)
    assert command == script.stem
    for file in files:
        load_config(file)


def test_the_commands_of_the_readme_are_scripts_but_for_the_last_three_rows():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(
        r"((?:^\|.*\n)+)\nAll but the last three rows are also scripts in `pipelines/`", readme, re.MULTILINE
    )
    rows = [re.findall(r"`recsys (\w+)", row.split("|")[1]) for row in table.splitlines()[2:]]
    scripts = {script.stem for script in SCRIPTS}
    assert len(rows) > 8
    assert {name for row in rows[:-3] for name in row} <= scripts
    assert not {name for row in rows[-3:] for name in row} & scripts


def test_the_project_has_these_entry_points_alone():
    project = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
    assert project["entry_points"].keys() == COMMAND.keys()


@pytest.mark.parametrize(("name", "wanted"), COMMAND.items())
def test_an_entry_point_of_the_project_is_a_script_with_its_configuration(name, wanted, asked):
    entry_point = load_project(str(ROOT)).get_entry_point(name)
    python, module, script, *words = shlex.split(entry_point.compute_command({}, None))
    assert (python, module) == ("python", "-m")
    command, files = asked(ROOT / f"{script.replace('.', '/')}.py", words)
    assert command == wanted
    assert load_config(*files).track.register_as
