"""``deeppicker report``: one HTML file about a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from deeppicker.cli._shared.types import OptionalFile, Where
from deeppicker.config.limits import within
from deeppicker.errors import InputError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.recorded import RUN
from deeppicker.formats.text import is_file, one_line
from deeppicker.formats.writable import refuse_unwritable_file


@dataclass(frozen=True, kw_only=True)
class Options:
    """Write one HTML file about a run, with its numbers, plots and pictures, which needs no server and no network."""

    folder: Positional[Path]
    """Output folder of `deeppicker pick` or `watch`."""
    output: OptionalFile = None
    """The HTML file; default: report.html in the folder."""
    reference: OptionalFile = None
    """Reference particles, in any supported format, to compare with."""
    micrographs: Where = None
    """Where the micrographs are, if not where the run found them, or a STAR file that knows their defocus."""
    pictures: int = 12
    """Number of micrographs to show, from the worst to the best."""

    def __post_init__(self) -> None:
        within(self, pictures=(0, 100))


def run(options: Options) -> int:
    """Write the report and return the exit status.

    Raises
    ------
    DeepPickerError
        If there is no run, or the file cannot be written.
    """
    from deeppicker.gui.project import Project, Wanted
    from deeppicker.gui.report import report

    if not is_file(options.folder / RUN):
        problem = f"holds no {RUN}" if options.folder.exists() else "does not exist"
        raise InputError(one_line(f"{options.folder} {problem}; give an output folder of deeppicker pick"))
    output = options.output if options.output is not None else options.folder / "report.html"
    refuse_unwritable_file(output)
    wanted = Wanted(inputs=(str(options.folder),), reference=options.reference, micrographs=options.micrographs)
    atomic_write(output, report(Project(wanted), options.pictures))
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
    return 0
