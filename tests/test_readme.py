"""What a reader may copy from the README runs."""

import re
from pathlib import Path

import recsys

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_run(tmp_path, monkeypatch, capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    recsys.datasets.synthetic(400, 150, 12_000, seed=1).to_frame().to_csv("ratings.csv", index=False)
    exec(compile(snippet.replace("epochs=30", "epochs=2"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "ndcg@10" in printed
    assert "rank" in printed
    assert type(recsys.load("my-model")).__name__ == "MultVAE"


def test_commands_and_models_that_it_names_exist():
    from recsys.cli import parser
    from recsys.models import MODELS

    commands = re.findall(r"^\| `recsys (\w+) ([^`]*)`", README, flags=re.MULTILINE)
    assert {name for name, _ in commands} >= {"train", "tune", "compare", "evaluate", "promote", "nightly", "score"}
    for name, arguments in commands:
        parser().parse_args([name, *arguments.split()])
    rows = re.findall(r"^\| (`.*?`(?:, `.*?`)*) \|", README, flags=re.MULTILINE)
    named = {model for row in rows for model in re.findall(r"`(\w+)`", row)}
    assert named == set(MODELS)


def test_what_it_says_of_the_models_and_of_the_parts_is_so():
    from recsys.models import MODELS
    from recsys.scoring.local import BATCH_SIZE

    (sentence,) = re.findall(r"^All models also `encode` users, except (.*)$", README, flags=re.MULTILINE)
    without = {name for name, model in MODELS.items() if not model.capabilities.encodes}
    assert set(re.findall(r"`(\w+)`", sentence)) == without
    (size,) = re.findall(r"of ([0-9,]+) users unless `--batch-size`", README)
    assert int(size.replace(",", "")) == BATCH_SIZE


def test_files_that_it_links_exist():
    for target in re.findall(r"\]\((?!https?:)(.*?)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
