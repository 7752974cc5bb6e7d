"""Read the defocus of micrographs where it is known, estimate it where it is not, and write it for RELION."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from deeppicker.cli._shared.progress import track
from deeppicker.cli._shared.types import Length, OptionalFile
from deeppicker.config import CtfConfig
from deeppicker.config.limits import positive, within
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.formats.sealed import parse_json
from deeppicker.formats.writable import refuse_unwritable_file

if TYPE_CHECKING:
    from deeppicker.core import Ctf, MicrographEntry, Microscope


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker ctf`."""

    micrographs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MICROGRAPHS..."), tyro.conf.Positional]
    """Image files, folders, patterns in quotes, or STAR files; a defocus in a STAR file is kept."""

    output: Path
    """Output STAR file of the micrographs with their defocus, for RELION and for `deeppicker classify --ctf`."""

    known: OptionalFile = None
    """Known defocus values: a STAR file, or a text file (or folder of them) of CTFFIND4."""

    again: bool = False
    """Estimate the defocus even where it is known."""

    pixel_size: Length = None
    """Å per pixel; default: from the STAR file or the image header."""

    voltage: float = 300.0
    """kV, if no STAR file gives it."""

    cs: float = 2.7
    """Spherical aberration in mm, if no STAR file gives it."""

    amplitude_contrast: float = 0.1
    """Fraction, 0-1, if no STAR file gives it."""

    phase_shift: float = 0.0
    """Degrees, of a phase plate; it is not estimated."""

    search: CtfConfig = CtfConfig()

    def __post_init__(self) -> None:
        within(self, voltage=(20, 2000), amplitude_contrast=(0, 1), cs=(0, 100))
        positive(self, "pixel_size")


def run(options: Options) -> int:
    """Read or estimate, print a line for each micrograph, write all at the end."""
    from deeppicker.core import Microscope, micrograph_key
    from deeppicker.formats import find_micrographs
    from deeppicker.formats.inputs import doubtful_pixel_sizes
    from deeppicker.formats.relion import defocus

    entries = find_micrographs(options.micrographs)
    for doubt in doubtful_pixel_sizes(entries, options.pixel_size):
        print(f"deeppicker: warning: {doubt}", file=sys.stderr)
    microscope = Microscope(
        voltage=options.voltage,
        spherical_aberration=options.cs,
        amplitude_contrast=options.amplitude_contrast,
        phase_shift=options.phase_shift,
    )
    known: dict[str, Ctf] = {}
    if not options.again:
        for text in options.micrographs:
            if text.lower().endswith(".star"):
                known |= defocus.read_known(Path(text), microscope)
        if options.known is not None:
            known |= defocus.read(options.known, microscope)
    refuse_unwritable_file(options.output)
    unfinished = _Unfinished(options)
    rows = []
    failed = 0
    for entry in track(entries, "contrast transfer"):
        try:
            size, found = _one(entry, known.get(micrograph_key(entry.name)), microscope, options, unfinished)
        except DeepPickerError as error:
            failed += 1
            print(f"deeppicker: {error}", file=sys.stderr)
            continue
        rows.append((entry.name, size, found))
        source = "known" if micrograph_key(entry.name) in known else f"fit {found.fit:.2f}"
        print(f"{entry.name}: {found.defocus_u:.3f} and {found.defocus_v:.3f} µm at {found.angle:.0f}°, {source}")
        if source != "known" and found.fit < defocus.POOR_FIT:
            print(
                f"deeppicker: warning: {entry.name}: its rings are hardly visible (fit {found.fit:.2f}); "
                "do not rely on this defocus, classify will not",
                file=sys.stderr,
            )
    if not rows:
        raise InputError(f"none of the {len(entries)} micrographs could be used")
    defocus.write(options.output, rows, ours=not known)
    unfinished.forget()
    print(f"{len(rows):,} micrographs -> {options.output}")
    return 1 if failed else 0


class _Unfinished:
    """Estimates beside the output, a line for each, so that the same command continues after an interruption."""

    def __init__(self, options: Options) -> None:
        self._path = options.output.absolute().with_name(f".{options.output.name}.unfinished")
        self._made = repr(replace(options, output=Path(), micrographs=()))
        self._known: dict[str, tuple[float, Ctf]] = {}
        with suppress(OSError, UnicodeDecodeError):
            for line in self._path.read_text(encoding="utf-8").splitlines():
                self._take_up(line)

    def _take_up(self, line: str) -> None:
        from deeppicker.core import Ctf, Microscope

        with suppress(ValueError, KeyError, TypeError):  # the last line may be cut off
            made, key, size, values = parse_json(line)
            if made == self._made:
                values["microscope"] = Microscope(**values["microscope"])
                self._known[key] = (size, Ctf(**values))

    def get(self, entry: MicrographEntry) -> tuple[float, Ctf] | None:
        """Return what was estimated of a micrograph that has not changed since."""
        return self._known.get(self._key(entry))

    def keep(self, entry: MicrographEntry, size: float, found: Ctf) -> None:
        """Store an estimate; a full disk costs no more than the chance to continue."""
        line = json.dumps([self._made, self._key(entry), size, asdict(found)])
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def forget(self) -> None:
        """Remove all that was stored."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    @staticmethod
    def _key(entry: MicrographEntry) -> str:
        with suppress(OSError):
            state = entry.path.stat()
            return f"{entry.name} {state.st_size} {state.st_mtime_ns}"
        return entry.name


def _one(
    entry: MicrographEntry, known: Ctf | None, microscope: Microscope, options: Options, unfinished: _Unfinished
) -> tuple[float, Ctf]:
    """Return the pixel size and the contrast transfer of a micrograph."""
    from deeppicker.formats import read_header, read_micrograph

    size = options.pixel_size if options.pixel_size is not None else entry.pixel_size
    if known is not None:
        size = size if size is not None else read_header(entry.path).pixel_size
        if size is None:
            raise InputError(f"{entry.name} has no pixel size; set --pixel-size")
        return size, known
    from deeppicker.particles.ctf import estimate_ctf

    earlier = unfinished.get(entry)
    if earlier is not None:
        return earlier
    micrograph = read_micrograph(entry.path, name=entry.name, pixel_size=size)
    found = estimate_ctf(micrograph, microscope, options.search)
    unfinished.keep(entry, micrograph.pixel_size, found)
    return micrograph.pixel_size, found
