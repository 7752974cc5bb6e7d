"""Align and average picks in classes: see what was picked, and drop the junk."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deeppicker.cli._shared.progress import steps, track
from deeppicker.cli._shared.types import Length, Numbers, OptionalFile, OptionalPath, Where
from deeppicker.config import ClassifyConfig, DeviceConfig
from deeppicker.errors import InputError
from deeppicker.formats.writable import refuse_unwritable_folder

if TYPE_CHECKING:
    from deeppicker.core import Ctf


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `deeppicker classify`."""

    picks: OptionalPath = None
    """Picks: an output folder or autopick.star of `deeppicker pick`, or coordinates in any format."""

    output: Path
    """Folder for the class averages, written whole at the end or not at all."""

    reject: bool = False
    """Also write the picks of good classes, as coordinates for RELION and for `deeppicker adapt`."""

    keep: Numbers = None
    """Choose by hand in a finished output folder: keep the picks of these classes only, such as ``1,2,5-9``. Nothing
    is classified anew, and --picks is not needed."""

    drop: Numbers = None
    """Likewise: keep the good classes except these."""

    ctf: OptionalFile = None
    """Defocus of the micrographs: a STAR file of `deeppicker ctf` or RELION, or a text file (or folder of them) of
    CTFFIND4. Default: from the STAR file of the picks, of their run or of the micrographs, if one holds it."""

    diameter: Length = None
    """Particle diameter in Å; default: that of the run that made the picks."""

    pixel_size: Length = None
    """Å per pixel; default: from the STAR file or the image header."""

    invert: bool = False
    """The particles are bright on a darker background."""

    micrographs: Where = None
    """Folder, pattern or STAR file of the micrographs, if the picks do not name them."""

    relion: bool = False
    """Let RELION's relion_refine align and average; the quality is judged as usual."""

    overwrite: bool = False
    """Replace an output folder of this command."""

    classify: ClassifyConfig = ClassifyConfig()
    device: DeviceConfig = DeviceConfig()


def run(options: Options) -> int:
    """Classify, or choose among the classes of a finished folder; show and write."""
    if options.keep is not None or options.drop is not None:
        return _choose(options)
    if options.picks is None:
        raise InputError("--picks must be given, or --keep or --drop to choose classes of a finished --output")
    return _classify(options, options.picks)


def _choose(options: Options) -> int:
    from deeppicker.particles.classify.files import KEPT, choose_classes

    if options.picks is not None or options.reject or options.overwrite:
        raise InputError("--keep and --drop choose classes of a finished --output; give neither --picks nor --reject")
    keep = None if options.keep is None else numbers_of(options.keep, "--keep")
    report = choose_classes(options.output, keep=keep, drop=numbers_of(options.drop or "", "--drop"))
    numbers = ", ".join(str(k + 1) for k in range(len(report.chosen)) if report.chosen[k])
    print(
        f"classes {numbers} are kept: {int(report.kept.sum()):,} of {len(report.kept):,} picks "
        f"-> {options.output / KEPT}"
    )
    return 0


def numbers_of(text: str, option: str) -> set[int]:
    """Return the numbers in a text such as ``1,2,5-9``.

    Raises
    ------
    InputError
        If it is none.
    """
    found: set[int] = set()
    for part in text.replace(",", " ").split():
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last if dash else first).isdecimal()):
            raise InputError(f"{option} {text} is no list of classes; give their numbers, such as 1,2,5-9")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _told_device(options: Options) -> str:
    """Say where particles are aligned, unless RELION does that, and return it.

    Raises
    ------
    InputError
        If what is asked for cannot be used.
    """
    from deeppicker.device import settle

    wanted = options.device.device
    if options.relion:
        if wanted not in ("auto", "cpu"):
            raise InputError(f"--device {wanted}: RELION aligns on the processor here; leave out --device or --relion")
        return "cpu"
    place = settle(wanted, one=True)
    print(f"computing {place}", flush=True)
    return place.device


def _classify(options: Options, source: Path) -> int:
    from deeppicker.device import torch_device
    from deeppicker.formats.provenance import tables_of_run
    from deeppicker.formats.recorded import Recorded
    from deeppicker.particles.classify import files
    from deeppicker.particles.classify.relion import classify as classify_by_relion
    from deeppicker.particles.classify.report import report_of
    from deeppicker.particles.classify.search import number_of_classes
    from deeppicker.particles.classify.steps import align, choose, cut_all
    from deeppicker.particles.classify.unfinished import forget
    from deeppicker.training.data import load_dataset

    files.check(options.output, options.overwrite)
    refuse_unwritable_folder(options.output.absolute().parent)
    device = _told_device(options)
    dataset = load_dataset(
        source,
        diameter=options.diameter,
        pixel_size=options.pixel_size,
        micrographs=options.micrographs,
        invert=options.invert,
    )
    config = options.classify
    items = choose(dataset.micrographs, Recorded(source).folder, 0 if options.reject else config.sample, config.seed)
    number = sum(len(sampled.picks) for _, sampled in items)
    if number < len(dataset):
        print(
            f"a sample is classified: {number:,} of {len(dataset):,} picks, of {len(items):,} of "
            f"{sum(len(item.picks) > 0 for item in dataset.micrographs):,} micrographs; --sample 0 takes all"
        )
    classes = number_of_classes(config, number)
    if number < 2 * classes:
        raise InputError(
            f"{source} holds {number} picks, too few for {classes} classes; set --classes to {max(1, number // 50)}"
        )
    known = _reliable(_defocus(options, source), [item.picks.key for item, _ in items])
    print(
        f"{dataset.name}: {number:,} picks of {dataset.diameter:g} Å in {len(items):,} micrographs; "
        f"defocus known for {sum(item.picks.key in known for item, _ in items):,}",
        flush=True,
    )
    windows = cut_all(items, dataset.diameter, config, known, lambda chosen: track(chosen, "cutting"))
    if options.relion:
        start, found = classify_by_relion(windows, dataset.diameter, config)
    else:
        with steps("classifying", config.iterations) as shown:
            start, found = align(windows, config, options.output, shown.at, torch_device(device))
    picks = [sampled.picks for _, sampled in items]
    report = report_of(windows, picks, start, found, dataset.diameter, config)
    recorded = Recorded(source)
    bright = options.invert or recorded.invert
    size = options.pixel_size if options.pixel_size is not None else recorded.pixel_size
    settings = {"made_by": "deeppicker classify", "diameter": dataset.diameter, "invert": bright, "pixel_size": size}
    files.write(options.output, report, settings, tables_of_run(source), kept=options.reject)
    forget(options.output)
    print(
        f"{int((report.members > 0).sum())} classes, {int(report.good.sum())} of them good; "
        f"{int(report.kept.sum()):,} of {len(report.kept):,} picks kept -> {options.output / 'classes.png'}"
    )
    if report.good.any():
        print(f"resolution of the good classes: {report.resolution} (where the halves of their members agree by half)")
    if options.reject:
        print(f"next: deeppicker adapt --picks {options.output / files.KEPT} --output adapted.safetensors")
    return 0


def _defocus(options: Options, picks: Path) -> dict[str, Ctf]:
    from deeppicker.formats.provenance import tables_of_run
    from deeppicker.formats.relion import defocus

    if options.ctf is not None:
        return defocus.read(options.ctf)
    named = [Path(options.micrographs)] if options.micrographs is not None else []
    return defocus.known_in([*tables_of_run(picks), picks, *named])


def _reliable(known: Mapping[str, Ctf], keys: Sequence[str]) -> dict[str, Ctf]:
    """Return the contrast transfers that can be used, and warn of others that some micrographs have."""
    doubtful = [key for key in keys if key in known and not known[key].reliable]
    if doubtful:
        warnings.warn(
            f"the defocus of {len(doubtful):,} micrographs is not used, because its fit is poor: "
            f"{doubtful[0]} has {known[doubtful[0]].fit:.2f}",
            stacklevel=2,
        )
    return {key: ctf for key, ctf in known.items() if ctf.reliable}
