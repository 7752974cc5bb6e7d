"""``deeppicker gui``: look at picks in a browser, correct them, learn from them."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deeppicker.cli._shared.types import Length, OptionalFile, OptionalPath, Where
from deeppicker.config.limits import positive, within
from deeppicker.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Look at picks, correct them and learn from them, in a browser on this machine or on another one.

    Give an output folder of `deeppicker pick` or `watch`, also of one that is running, or micrographs.
    """

    inputs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN_OR_MICROGRAPHS")]
    """An output folder of `deeppicker pick`; or micrographs: files, folders, patterns or STAR files."""
    output: Path = Path("picks")
    """Folder for the picks of micrographs, if no run is given."""
    picks: OptionalFile = None
    """Coordinates of another program, in any supported format, to look at in place of a run's."""
    reference: OptionalFile = None
    """Coordinates to compare with, in any supported format."""
    micrographs: Where = None
    """Where the micrographs are, if not where the run found them, or a STAR file that knows their pixel size and
    defocus."""
    classes: OptionalPath = None
    """Output folder of `deeppicker classify`, to look at and to choose from; default: `classes` in the run."""
    diameter: Length = None
    """Particle diameter in Å; default: that of the run or of the coordinates."""
    pixel_size: Length = None
    """Å per pixel; default: from the run, the STAR files or the images."""
    port: int | None = None
    """Port to listen on; default: the first free one from 8700."""
    socket: OptionalFile = None
    """Listen on this socket file, in a folder that only you may enter, instead of a port that every user of this
    machine can reach."""
    no_browser: bool = False
    """Only print the address."""
    read_only: bool = False
    """Look, but change nothing."""

    def __post_init__(self) -> None:
        positive(self, "diameter", "pixel_size")
        within(self, port=(0, 65535))


def run(options: Options) -> int:
    """Serve until interrupted.

    Raises
    ------
    DeepPickerError
        If the inputs cannot be used, or the address not be had.
    """
    try:
        from deeppicker.gui.serve import Address, serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise InputError(f"{error.name} is not installed; pip install 'deeppicker[gui]'") from error
    from deeppicker.gui.project import Project, Wanted

    if not options.inputs:
        raise InputError("nothing is given to look at; give an output folder of deeppicker pick, or micrographs")
    wanted = Wanted(
        inputs=options.inputs,
        output=options.output,
        picks=options.picks,
        reference=options.reference,
        micrographs=options.micrographs,
        diameter=options.diameter,
        pixel_size=options.pixel_size,
        classes=options.classes,
    )
    project = Project(wanted)
    if not project.entries:
        print(f"{project.folder} holds no picks yet; the page shows them as soon as they are made")
    if project.trouble:
        warnings.warn(project.trouble, stacklevel=2)
    with suppress(KeyboardInterrupt):  # how one ends it
        serve(
            project,
            Address(options.port, options.socket),
            lambda text: print(text, flush=True),
            browser=not options.no_browser,
            read_only=options.read_only,
        )
    return 0
