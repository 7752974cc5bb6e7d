"""Write all settings of a command as a TOML file that its --settings reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from deeppicker.cli._shared.settings import settings_text


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker settings`."""

    command: Annotated[Positional[Literal["pick", "watch", "relion", "train", "adapt"]], arg(metavar="COMMAND")] = (
        "pick"
    )
    """Command whose settings are written: pick, watch, relion, train or adapt."""


def run(options: Options) -> int:
    """Print them."""
    print(settings_text(options.command), end="")
    return 0
