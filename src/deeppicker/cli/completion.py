"""Print a script that completes commands and options in bash, zsh or fish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from deeppicker.cli._shared.completion import completion_script


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker completion`."""

    shell: Annotated[Positional[Literal["bash", "zsh", "fish"]], arg(metavar="SHELL")]
    """The shell: bash, zsh or fish."""


def run(options: Options) -> int:
    """Print the script."""
    from deeppicker.cli.main import VERBS

    print(completion_script(options.shell, VERBS), end="")
    return 0
