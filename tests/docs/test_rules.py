"""What docs/rules.md shows runs, and what it writes as rules is read."""

import re
import tomllib
from pathlib import Path

import pytest

from recsys.rules import Predicate, Rules

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")


def test_the_example_runs_and_prints_what_each_rule_costs(tmp_path, monkeypatch, capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "rules.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["rules", "none", "+ allow", "+ at_most", "+ calibration"]


def test_the_file_is_read_but_for_what_does_not_go_together(tmp_path):
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "rules.toml").write_text(shown)
    assert Rules.read(tmp_path / "rules.toml").as_dict() == tomllib.loads(shown)["rules"]


@pytest.mark.parametrize("text", re.findall(r"^    (\w.*[=<>(].*|\w+ contains .*)$", PAGE, flags=re.MULTILINE))
def test_the_predicates_are_read(text):
    assert Predicate.parse(text).columns


def test_every_rule_and_every_sign_is_on_the_page():
    assert [name for name in Rules.__dataclass_fields__ if name not in PAGE] == []
    assert [sign for sign in ("!=", "<=", ">=", "not in", "contains") if f"`{sign}" not in PAGE] == []
