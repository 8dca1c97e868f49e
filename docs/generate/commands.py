"""docs/commands.md, from the table of commands and that of exit codes."""

from pathlib import Path

from recsys.arguments import COMMON, FORMS, Option
from recsys.commands import COMMANDS, GROUPS
from recsys.errors import Exit

PAGE = Path(__file__).parents[1] / "commands.md"

_HEAD = """# Commands

Generated from the tables of commands and of exit codes (`make docs`).

`recsys COMMAND --help` says the same. Tables go to standard output; progress and warnings go to standard error: as bars
on a terminal, as at most one line an epoch with the time in a file or pipe, and not at all with `--quiet`. Nothing is
ever printed in color, so that `NO_COLOR` is kept.

## Exit codes

Every command ends with one of these; a script need not read its messages.

| code | what | when |
|--:|---|---|
"""

_COMPLETION = """
1 is a fault of this package, with a traceback.

## Completion

`recsys completion SHELL` prints what a shell needs to complete commands, options, their choices and files:

<!-- not run: it changes the files of a shell; tests/test_manners.py prints what each is given -->
```sh
eval "$(recsys completion bash)"                                     # in ~/.bashrc
eval "$(recsys completion zsh)"                                      # in ~/.zshrc
recsys completion fish > ~/.config/fish/completions/recsys.fish      # once
```
"""


def page() -> str:
    """Return the page."""
    codes = "".join(f"| {code.value} | {code.name.lower().replace('_', ' ')} | {code.meaning} |\n" for code in Exit)
    parts = [_HEAD, codes, _COMPLETION, "\n## Options of every command\n\n", _table(COMMON)]
    parts += ["\nOf every command with a table:\n\n", _table(FORMS)]
    for command in COMMANDS:
        group = GROUPS.get(command.name.rpartition(" ")[0], "")
        parts.append(f"\n## recsys {command.name}\n\n{_sentence(command.help)}")
        parts.append(f" ({group})\n" if group else "\n")
        notes = [
            "Prints a table, which `--json` and `--csv` print alone." if command.table else "",
            "If it is interrupted, the same command goes on where it stopped." if command.continues else "",
            "Takes several processes of `torchrun`." if command.in_ranks else "",
        ]
        parts += [f"\n{' '.join(filter(None, notes))}\n"] if any(notes) else []
        parts += ["\n", _table(command.options)] if command.options else []
    return "".join(parts)


def _table(options: tuple[Option, ...]) -> str:
    rows = ["| option | meaning |\n|---|---|\n"]
    for flags, settings in options:
        values = "\\|".join(settings.get("choices", ())) or settings.get("metavar", "")
        named = f"`{flags[0]}`" + (f" {values}" if values and flags[0].startswith("-") else "")
        rows.append(f"| {named} | {str(settings.get('help', '')).replace('|', chr(92) + '|')} |\n")
    return "".join(rows)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
