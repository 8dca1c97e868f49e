"""Completion of the command in shells: subcommands, options, their choices, and files."""

from __future__ import annotations

from recsys.workspace import Workspace


def run(workspace: Workspace, shell: str) -> str:
    """Print and return what the configuration of `bash`, `zsh` or `fish` runs to complete the command `recsys`."""
    from argcomplete.shell_integration import shellcode

    code: str = shellcode(["recsys"], shell=shell)
    print(code)
    return code
