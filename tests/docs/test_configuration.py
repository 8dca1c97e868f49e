"""docs/configuration.md, and the file that it shows."""

import re

from recsys.config import JobConfig, load_config
from tests.docs.configuration import PAGE, page


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/configuration.md is older than the docstrings: make docs"


def test_every_section_and_key_is_on_the_page_and_says_what_it_is():
    text = page()
    assert {name for name in JobConfig.model_fields if f"## `[{name}]`" not in text} == {"model"}
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| .*? \|(.*)\|$", text, flags=re.MULTILINE)
    assert len(rows) > 50
    assert [key for key, kind, said in rows if not kind or not said.strip()] == []


def test_the_file_that_it_shows_is_valid(tmp_path):
    (shown,) = re.findall(r"```toml\n(.*?)```", page(), flags=re.DOTALL)
    file = tmp_path / "small.toml"
    file.write_text(shown, encoding="utf-8")
    assert load_config(file).model["name"] == "EASE"
