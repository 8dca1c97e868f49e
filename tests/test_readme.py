"""What a reader may copy from the README runs, what it names exists, and so do the files that the pages link."""

import re
import tomllib
from operator import attrgetter
from pathlib import Path

import pandas as pd
import pytest

import recsys
from recsys.cli import parser
from recsys.commands import COMMANDS
from recsys.models import MODELS
from recsys.scoring.local import BATCH_SIZE
from tests.shop import write_shop

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "data" / "README.md"]


def snippet_with(text):
    """The code of the page that names a file."""
    (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if text in code]
    return snippet


def test_the_few_lines_of_a_shop_run(mlflow_root, capsys):
    write_shop(mlflow_root)
    snippet = snippet_with("events.csv").replace("C-00017", "000017")
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 6
    exec(compile(snippet, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "user 000017" in printed
    assert "Popularity" in printed
    assert list(pd.read_parquet("tonight"))[-1] == "title"


def test_the_ten_lines_run(tmp_path, monkeypatch, capsys):
    snippet = snippet_with("ratings.csv")
    monkeypatch.chdir(tmp_path)
    recsys.datasets.synthetic(400, 150, 12_000, seed=1).to_frame().to_csv("ratings.csv", index=False)
    exec(compile(snippet.replace("epochs=30", "epochs=2"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "ndcg@10" in printed
    assert "rank" in printed
    assert type(recsys.load("my-model")).__name__ == "MultVAE"


def test_commands_that_it_names_exist():
    rows = re.findall(r"^\| `recsys .*$", README, flags=re.MULTILINE)
    commands = [command.split() for row in rows for command in re.findall(r"`recsys (.*?)`", row)]
    assert {name for name, *_ in commands} == {command.name.split()[0] for command in COMMANDS} - {"demo"}
    for command in commands:
        if command != ["rollback"]:  # named in passing, without its argument
            parser().parse_args(command)


def test_the_table_of_what_models_are_names_each_once():
    by_hand, _ = README.split("<!-- models: made by make docs -->")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", by_hand, flags=re.MULTILINE)
    named = [model for row in rows for model in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(MODELS)


def test_names_of_the_package_exist():
    named = re.findall(r"(?<![\w/])(?<!from )recsys((?:\.\w+)+)", README)  # imports are executed above
    assert len(named) > 10
    for name in named:
        attrgetter(name[1:])(recsys)


def test_the_size_of_a_part_that_it_names_is_the_default():
    (size,) = re.findall(r"of ([0-9,]+) users unless\s`--batch-size`", README)
    assert int(size.replace(",", "")) == BATCH_SIZE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_links_exist(page):
    for target in re.findall(r"\]\((?!https?:)(.*?)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_changelog_has_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    released = re.findall(
        r"^## \[([0-9.]+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE
    )
    assert released[0] == project["version"]
