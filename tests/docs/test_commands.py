"""docs/commands.md is what the tables of commands and of exit codes say."""

from docs.generate import commands
from recsys.commands import COMMANDS
from recsys.errors import Exit


def test_the_page_is_up_to_date():
    assert commands.PAGE.read_text(encoding="utf-8") == commands.page(), "run `make docs`"


def test_the_page_names_every_command_and_code():
    page = commands.page()
    assert all(f"\n## recsys {command.name}\n" in page for command in COMMANDS)
    assert all(f"\n| {code.value} | " in page for code in Exit)
