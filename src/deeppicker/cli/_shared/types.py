"""Types of options, with the names under which `--help` shows their values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from deeppicker.networks.kinds import NETWORKS

Length = Annotated[float | None, tyro.conf.arg(metavar="A")]
"""A length in Å, or Å per pixel."""

Probability = Annotated[float | None, tyro.conf.arg(metavar="P")]
"""A score, 0-1."""

OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]

Numbers = Annotated[str | None, tyro.conf.arg(metavar="N,N...")]
"""Numbers from 1, such as ``1,2,5-9``."""

Where = Annotated[str | None, tyro.conf.arg(metavar="WHERE")]
"""A folder, a pattern, a file or a STAR file."""

if TYPE_CHECKING:
    NetworkKind = str
else:
    NetworkKind = tyro.extras.literal_type_from_choices(sorted(NETWORKS))
    """The name of a network."""

SettingsFile = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="FILE", help="File of options, as `deeppicker settings` writes it; options given here take precedence."
    ),
]
"""A TOML file with more options."""
