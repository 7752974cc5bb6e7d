"""What is known of micrographs and particles before their picks are judged: diameter, pixel size, size, defocus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deeppicker.core import MicrographEntry
from deeppicker.errors import InputError
from deeppicker.evaluation.results import MicrographInfo
from deeppicker.formats import read_header
from deeppicker.formats.recorded import Recorded
from deeppicker.formats.text import one_line


def particle_diameter(given: float | None, picks: Path, reference: Path | None) -> float:
    """Return the diameter given, of the data set of the reference, or of the run that made the picks, in Å.

    Raises
    ------
    InputError
        If none of these tells; the message names ``--diameter``.
    """
    sources = [picks] if reference is None else [reference, picks]  # that of a run may be an estimate
    known = given if given is not None else next(filter(None, (Recorded(source).diameter for source in sources)), None)
    if known is None:
        where = " or ".join(str(source) for source in sources)
        raise InputError(one_line(f"no particle diameter is recorded beside {where}; set --diameter (in Å)"))
    return known


def micrograph_info(entries: Sequence[MicrographEntry], pixel_size: float | None) -> MicrographInfo | None:
    """Return what the first entry that tells says; the image's header says the rest. None without pixel size.

    Parameters
    ----------
    entries : sequence of MicrographEntry
        All about one micrograph, the most trusted first.
    pixel_size : float or None
        Å per pixel that overrides all others.
    """
    header = next((read_header(entry.path) for entry in entries if entry.path.is_file()), None)
    sizes = [pixel_size, *(entry.pixel_size for entry in entries), header.pixel_size if header else None]
    size = next((value for value in sizes if value is not None), None)
    if size is None:
        return None
    return MicrographInfo(
        pixel_size=size,
        size=(header.height, header.width) if header else None,
        defocus=next((entry.defocus for entry in entries if entry.defocus is not None), None),
    )
