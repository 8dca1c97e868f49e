"""docs/configuration.md, and the files that it shows."""

import re
import sys

from docs.generate.configuration import PAGE, page
from recsys.config import JobConfig, load_config
from recsys.datasets import READERS, readers
from recsys.splits import SPLITTERS, registry


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/configuration.md is older than the docstrings: make docs"


def test_every_section_and_key_is_on_the_page_and_says_what_it_is():
    text = page()
    assert [name for name in JobConfig.model_fields if f"## `[{name}]`" not in text] == []
    assert [kind for kind in SPLITTERS if f'### `kind = "{kind}"`' not in text] == []
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| .*? \|(.*)\|$", text, flags=re.MULTILINE)
    assert len(rows) > 55
    assert [key for key, kind, meaning in rows if not kind or not meaning.strip()] == []


def test_the_first_file_that_it_shows_is_valid(tmp_path):
    shown = re.findall(r"```toml\n(.*?)```", page(), flags=re.DOTALL)[0]
    file = tmp_path / "small.toml"
    file.write_text(shown, encoding="utf-8")
    assert load_config(file).model["name"] == "EASE"


def test_the_module_that_it_shows_registers_what_the_file_beside_it_uses(tmp_path, monkeypatch):
    (module,) = re.findall(r"```python\n(.*?)```", page(), flags=re.DOTALL)
    shown = re.findall(r"```toml\n(.*?)```", page(), flags=re.DOTALL)[1]
    (tmp_path / "my_parts.py").write_text(module, encoding="utf-8")
    (tmp_path / "job.toml").write_text(shown, encoding="utf-8")
    lines = [f'{{"user_id": {n % 4}, "item_id": {n}}}\n' for n in range(20)]
    (tmp_path / "plays.jsonl").write_text("".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = dict(SPLITTERS), dict(READERS)
    try:
        config = load_config("job.toml")
        assert config.split.split(config.load_data()).test.target.nnz == 4
        text = page()
        assert '### `kind = "every_nth"`\n\nHold out every n-th entry.\n' in text
        assert "| `n` | whole number | `10` | Distance between test entries. |" in text
        assert "| `jsonl` | a JSON object per line |\n| `parquet` |" in text
    finally:
        sys.modules.pop("my_parts", None)
        for registered, kept in zip((registry._REGISTERED, readers._REGISTERED), before, strict=True):
            registered.clear()
            registered.update(kept)
