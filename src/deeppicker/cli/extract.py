"""Cut the particles out of their micrographs, as stacks of images for RELION and cryoSPARC."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deeppicker.cli._shared.show import Show, ShowConfig, showing
from deeppicker.cli._shared.types import Length, Where
from deeppicker.config import ClusterConfig, ExtractConfig, ImageConfig, WorkConfig
from deeppicker.config.limits import positive, within
from deeppicker.core import box_size, micrograph_key
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.formats import find_micrographs, make_folder, read_header, read_picks
from deeppicker.formats.atomic import remove_left_behind
from deeppicker.formats.inputs import doubtful_pixel_sizes
from deeppicker.formats.names import distinct_keys, match_names
from deeppicker.formats.provenance import named_micrographs, tables_of_run
from deeppicker.formats.recorded import Recorded, list_of
from deeppicker.formats.relion.particles import (
    AMPLITUDE_CONTRAST,
    CS,
    VOLTAGE,
    Acquisition,
    Stack,
    read_acquisitions,
    write_particles,
)
from deeppicker.formats.writable import refuse_unwritable_file, refuse_unwritable_folder
from deeppicker.particles.extract import ExtractItem, ExtractJob

_STACKS = "particles"  # folder of the stacks
_TABLE = "particles.star"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Cut the particles out of their micrographs, as stacks of images for RELION and cryoSPARC.

    Run it in RELION's project folder: the table names stacks and micrographs relative to it.
    """

    coordinates: Annotated[Positional[Path], arg(metavar="COORDINATES")]
    """Output folder of `deeppicker pick`, or a file or folder of coordinates in any supported format."""

    output: Path
    """Folder for the stacks and particles.star; a second run makes only missing or outdated stacks."""

    micrographs: Where = None
    """The micrographs: a file, a folder, a quoted pattern or a STAR file, whose optics groups and CTF parameters are
    kept. Default: as named by the coordinates."""

    pixel_size: Length = None
    """Å per pixel of the micrographs; default: from the STAR file or the image header."""

    voltage: float | None = None
    """Of the microscope in kV, if no STAR file gives it; RELION and cryoSPARC need it."""

    cs: float | None = None
    """Spherical aberration in mm, likewise."""

    amplitude_contrast: float | None = None
    """Fraction, 0-1, likewise; usually 0.1."""

    box_size: int | None = None
    """Side of the windows in pixels of the micrograph, even. Default: one and a half particle diameters, if that is
    recorded beside the coordinates."""

    images: ImageConfig = ImageConfig()
    work: WorkConfig = WorkConfig()
    cluster: ClusterConfig = ClusterConfig()
    show: ShowConfig = ShowConfig()

    def __post_init__(self) -> None:
        positive(self, "pixel_size")
        within(self, voltage=(20, 2000), cs=(0, 100), amplitude_contrast=(0, 1))


def run(options: Options) -> int:
    """Write what is missing, then the table; return 1 if some micrographs failed, 2 if all did."""
    from deeppicker.parallel.jobs import with_retries
    from deeppicker.parallel.pool import open_pool

    refuse_unwritable_folder(options.output)
    items, acquisitions = _items(options)
    for doubt in doubtful_pixel_sizes([item.entry for item in items], options.pixel_size):
        warnings.warn(doubt, stacklevel=2)
    config = ExtractConfig(box_size=_box_size(options, items), image=options.images)
    job = ExtractJob(make_folder(options.output / _STACKS), config)
    refuse_unwritable_file(options.output / _TABLE)
    for folder in (options.output, job.folder):
        remove_left_behind(folder)
    missing = [item for item in items if not job.is_done(item)]
    failed: dict[str, str] = {}
    with (
        showing(options.show) as show,
        open_pool(options.work, options.cluster, len(missing), options.output, show.text) as pool,
    ):
        outcomes = with_retries(pool.mapper(job.resolved()), missing, options.work.retries)
        for item, outcome in show.track(outcomes, "extracting", len(missing)):
            if isinstance(outcome, DeepPickerError):
                name, reason = item.entry.name, str(outcome)
                failed[name] = reason if name in reason else f"{name}: {reason}"
                show.warn(failed[name])
        done = [item for item in items if item.entry.name not in failed]
        if not done:
            return 2
        stacks = list(_stacks(job, done, acquisitions))
        number = write_particles(options.output / _TABLE, stacks, config.box_size, config.side)
        _report(options, config, number, (len(done), len(items) - len(missing), len(failed)), show)
    return 1 if failed else 0


def _items(options: Options) -> tuple[list[ExtractItem], dict[str, Acquisition]]:
    """Return what there is to do, and what a STAR file of the micrographs says of them."""
    picks = [item for item in read_picks(options.coordinates) if len(item)]
    if not picks:
        raise InputError(f"{options.coordinates} holds no particles; nothing is extracted")
    distinct_keys(picks)
    tables = [Path(options.micrographs)] if options.micrographs else tables_of_run(options.coordinates)
    acquisitions: dict[str, Acquisition] = {}
    for table in tables:
        if table.suffix.lower() == ".star":
            acquisitions |= read_acquisitions(table)
    where = options.micrographs or str(_named_in(options.coordinates))
    entries = find_micrographs([where]) if options.micrographs else named_micrographs(options.coordinates, picks)
    matched = match_names(picks, entries)
    lost = [item.micrograph for item in picks if item.micrograph not in matched]
    if lost:
        raise InputError(
            f"{len(lost):,} of {len(picks):,} micrographs with particles are not in {where}, such as {lost[0]}; "
            "set --micrographs to a place that holds all"
        )
    named = [(matched[item.micrograph], item) for item in picks]
    items = [ExtractItem(entry, replace(item, micrograph=entry.name), options.pixel_size) for entry, item in named]
    return items, _complete([entry.name for entry, _ in named], acquisitions, options)


def _complete(names: Sequence[str], said: Mapping[str, Acquisition], options: Options) -> dict[str, Acquisition]:
    """Return how each micrograph was taken: as its STAR file says, else as the options say.

    Raises
    ------
    InputError
        If neither says what RELION and cryoSPARC need.
    """
    by_key = {micrograph_key(name): acquisition for name, acquisition in said.items()}
    given = {VOLTAGE: options.voltage, CS: options.cs, AMPLITUDE_CONTRAST: options.amplitude_contrast}
    complete = {name: by_key.get(micrograph_key(name), Acquisition()).completed(given) for name in names}
    name, missing = max(((name, item.missing) for name, item in complete.items()), key=lambda both: len(both[1]))
    if missing:
        ask = {VOLTAGE: "--voltage (kV)", CS: "--cs (mm)", AMPLITUDE_CONTRAST: "--amplitude-contrast (usually 0.1)"}
        raise InputError(
            f"how {name} was taken is not known, and RELION and cryoSPARC need it; set "
            f"{', '.join(ask[label] for label in missing)}, or --micrographs to RELION's STAR file of the micrographs"
        )
    return complete


def _box_size(options: Options, items: Sequence[ExtractItem]) -> int:
    """Return the box size given, or one that suits the diameter of the run."""
    if options.box_size is not None:
        return options.box_size
    diameter = Recorded(options.coordinates).diameter
    if diameter is None:
        raise InputError(
            f"no particle diameter is recorded beside {options.coordinates}; set --box-size in pixels of the "
            "micrographs, one and a half particle diameters or more"
        )
    entry = items[0].entry
    size = items[0].pixel_size or entry.pixel_size or read_header(entry.path).pixel_size
    if size is None:
        raise InputError(f"{entry.name} has no pixel size; set --pixel-size (in Å)")
    return box_size(diameter, size)


def _named_in(coordinates: Path) -> Path:
    """Return the file that names the micrographs of coordinates."""
    path = list_of(coordinates)
    if path.suffix.lower() not in (".star", ".cs") or not path.is_file():
        raise InputError(f"{coordinates} does not name its micrographs; set --micrographs")
    return path


def _stacks(job: ExtractJob, done: Sequence[ExtractItem], acquisitions: dict[str, Acquisition]) -> Iterator[Stack]:
    for item in done:
        entry = item.entry
        size = item.pixel_size or entry.pixel_size or read_header(entry.path).pixel_size
        assert size is not None  # else it would have failed
        yield Stack(item.picks, str(job.file(entry.name)), size, acquisitions[entry.name])


def _report(options: Options, config: ExtractConfig, number: int, counts: tuple[int, int, int], show: Show) -> None:
    done, before, failed = counts
    show.say(
        f"{number:,} particles of {done:,} micrographs ({before:,} were done before), "
        f"{config.side}×{config.side} pixels each, cut from {config.box_size} -> {options.output / _TABLE}",
        "end",
        particles=number,
        micrographs=done,
        failed=failed,
    )
