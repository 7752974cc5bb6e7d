"""Micrographs with known particles: what training and adaptation start from. No torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from deeppicker.core import Micrograph, MicrographEntry, Picks, micrograph_key
from deeppicker.errors import InputError
from deeppicker.formats import read_micrograph, read_picks
from deeppicker.formats.inputs import doubtful_pixel_sizes, find_micrographs
from deeppicker.formats.provenance import named_micrographs
from deeppicker.formats.recorded import Recorded, list_of
from deeppicker.formats.relion.star import read_micrographs
from deeppicker.formats.room import refuse_special

_BACKGROUND_DIAMETERS = (14.0, 20.0, 28.0, 40.0, 60.0)  # pixels


@dataclass(frozen=True)
class Labelled:
    """One micrograph with its known particles.

    Parameters
    ----------
    load : callable
        Reads the micrograph; called only when its windows are cut.
    picks : Picks
        The particles that become positives.
    avoid : float array, (m, 2)
        All known particles, (x, y) in micrograph pixels, from which negatives keep their distance.
    source : str
        What ``load`` reads and how, so that an interrupted training is not continued with other images.
    mask : Path or None
        An image of the same size that is white where there is contamination, if that is known.
    held : bool
        It is kept out of training, to judge what was learnt; see `hold_out`.
    """

    load: Callable[[], Micrograph]
    picks: Picks
    avoid: Float[np.ndarray, "m 2"]
    source: str = ""
    mask: Path | None = None
    held: bool = False


@dataclass(frozen=True)
class Dataset:
    """Micrographs of one molecule.

    Parameters
    ----------
    name : str
        How messages and model files name it.
    diameter : float
        Particle diameter in Å.
    micrographs : sequence of Labelled
        Those without any particle are of no use for training.
    missing : tuple of str
        Names of micrographs with particles that were not found.
    """

    name: str
    diameter: float
    micrographs: Sequence[Labelled]
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(len(item.picks) for item in self.micrographs)

    @property
    def simulated(self) -> bool:
        """Whether all is known about the micrographs, which is so of simulated ones only."""
        return len(self) > 0 and all(item.mask is not None for item in self.micrographs)

    def part(self, *, held: bool) -> Dataset:
        """Return the data set with only the micrographs that are kept out of training, or only the others."""
        return replace(self, micrographs=[item for item in self.micrographs if item.held is held])


def load_dataset(
    picks: Path,
    *,
    diameter: float | None = None,
    pixel_size: float | None = None,
    micrographs: str | None = None,
    invert: bool = False,
) -> Dataset:
    """Return the micrographs and particles that a file of coordinates names; images are read only when needed.

    Parameters
    ----------
    picks : Path
        Any coordinate file that the program reads, or a folder of them.
    diameter : float, optional
        Particle diameter in Å; otherwise that of a ``run.json`` or ``dataset.json`` beside the picks.
    pixel_size : float, optional
        Å per pixel; otherwise that with which the picks were made, of the STAR file or of the image header.
    micrographs : str, optional
        Where the images are (folder, glob or STAR), if the picks do not say.
    invert : bool
        The particles are bright; also if a ``run.json`` beside the picks says so.

    Raises
    ------
    InputError
        If the diameter is unknown, or none of the micrographs can be found.
    """
    recorded = Recorded(picks)
    content = read_picks(picks)
    known = diameter if diameter is not None else recorded.diameter
    if known is None:
        raise InputError(f"{picks}: the particle diameter is not known; set --diameter (in Å)")
    entries = _entries(picks, micrographs)
    named: dict[str, Picks] = {}
    for item in content:
        if item.key in named:
            raise InputError(
                f"{picks}: {named[item.key].micrograph} and {item.micrograph} have the same name; "
                "put them into separate files"
            )
        if len(item):
            named[item.key] = item
    if not named:
        raise InputError(f"{picks} holds no particle; nothing can be learnt from it")
    found = {key: entry for key, entry in entries.items() if key in named and entry.path.is_file()}
    if not found:
        looked = ", ".join(str(entries[key].path) if key in entries else key for key in list(named)[:3])
        raise InputError(
            f"{picks}: none of its {len(named)} micrographs was found (looked for {looked}); "
            "set --micrographs to their folder"
        )
    size = pixel_size if pixel_size is not None else recorded.pixel_size
    for doubt in doubtful_pixel_sizes(list(found.values()), pixel_size) if size == pixel_size else ():
        warnings.warn(doubt, stacklevel=2)  # of that of a run, the run itself has told
    bright = invert or recorded.invert
    labelled = [
        Labelled(
            partial(_read, entry, size, bright),
            named[key],
            named[key].positions,
            _source(entry, size, bright),
            _mask(picks, key),
        )
        for key, entry in sorted(found.items())
    ]
    missing = tuple(item.micrograph for key, item in named.items() if key not in found)
    labelled += [
        replace(_empty(entry, size, bright), mask=_mask(picks, key))
        for key, entry in sorted(_declared(picks).items())
        if key not in named
    ]
    return Dataset(f"{picks.resolve().parent.name}/{picks.name}", known, labelled, missing)


def load_background(inputs: Sequence[str], *, invert: bool = False) -> list[Dataset]:
    """Return micrographs without any particle, as data sets of several particle diameters, each in pixels.

    Whatever the diameter, there is nothing to be found in them, so their pixel size does not matter.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders or patterns.
    invert : bool
        Particles would be bright.
    """
    entries = [replace(entry, pixel_size=1.0) for entry in find_micrographs(inputs)]
    return [
        Dataset(f"background at {pixels:g} px", pixels, [_empty(entry, 1.0, invert) for entry in entries])
        for pixels in _BACKGROUND_DIAMETERS
    ]


def _entries(picks: Path, micrographs: str | None) -> dict[str, MicrographEntry]:
    """Return where the micrographs are, by key."""
    if micrographs is not None:
        found = find_micrographs([micrographs])
    else:
        star = list_of(picks)
        if star.exists():
            refuse_special(star)
        if star.suffix.lower() != ".star" or not star.is_file():
            raise InputError(f"{picks} does not say where its micrographs are; set --micrographs to their folder")
        found = named_micrographs(picks, ())
    return {micrograph_key(entry.name): entry for entry in found}


def _read(entry: MicrographEntry, pixel_size: float | None, invert: bool) -> Micrograph:
    size = pixel_size if pixel_size is not None else entry.pixel_size
    return read_micrograph(entry.path, name=entry.name, pixel_size=size, invert=invert)


def _declared(picks: Path) -> dict[str, MicrographEntry]:
    """Return the micrographs that a ``micrographs.star`` beside the coordinates lists, and that exist.

    It says which micrographs were searched: those of them without a particle are empty.
    """
    beside = picks.parent / "micrographs.star"
    if picks.is_dir() or not beside.is_file():
        return {}
    return {micrograph_key(entry.name): entry for entry in read_micrographs(beside) if entry.path.is_file()}


def _mask(picks: Path, key: str) -> Path | None:
    """Return the mask of contamination that `deeppicker simulate` leaves in ``masks`` beside the coordinates."""
    path = picks.parent / "masks" / f"{key}.png"
    return path if path.is_file() else None


def _empty(entry: MicrographEntry, pixel_size: float | None, invert: bool) -> Labelled:
    nothing = Picks.unscored(entry.name, np.zeros((0, 2)))
    return Labelled(
        partial(_read, entry, pixel_size, invert), nothing, nothing.positions, _source(entry, pixel_size, invert)
    )


def _source(entry: MicrographEntry, pixel_size: float | None, invert: bool) -> str:
    """Return what is read and how, with size and time of the file: another content must not continue a training."""
    status = entry.path.stat()
    return f"{entry.path} {status.st_size} {status.st_mtime_ns} {pixel_size or entry.pixel_size} {invert}"


def split(dataset: Dataset, fraction: float, rng: np.random.Generator) -> tuple[Dataset, Dataset]:
    """Return a training and a validation part that share no micrograph (Section 4.3).

    Where some micrographs are kept out of training, they are the validation part. Otherwise it holds about ``fraction``
    as many particles as the training part and at least one micrograph. A single micrograph is divided into its
    particles instead.
    """
    if any(item.held for item in dataset.micrographs):
        return dataset.part(held=False), dataset.part(held=True)
    if len(dataset.micrographs) == 1:
        return _split_particles(dataset, fraction, rng)
    wanted = len(dataset) * fraction / (1 + fraction)
    order = rng.permutation(len(dataset.micrographs))
    counts = np.cumsum([len(dataset.micrographs[i].picks) for i in order])
    number = int(np.clip(np.searchsorted(counts, wanted) + 1, 1, len(order) - 1))
    chosen = set(order[:number].tolist())
    parts = [[m for i, m in enumerate(dataset.micrographs) if (i in chosen) is held] for held in (False, True)]
    return replace(dataset, micrographs=parts[0]), replace(dataset, micrographs=parts[1])


def _split_particles(dataset: Dataset, fraction: float, rng: np.random.Generator) -> tuple[Dataset, Dataset]:
    (only,) = dataset.micrographs
    number = max(1, round(len(only.picks) * fraction / (1 + fraction)))
    held = np.zeros(len(only.picks), dtype=bool)
    held[rng.permutation(len(only.picks))[:number]] = True
    parts = [replace(only, picks=only.picks.where(keep)) for keep in (~held, held)]
    return replace(dataset, micrographs=[parts[0]]), replace(dataset, micrographs=[parts[1]])
