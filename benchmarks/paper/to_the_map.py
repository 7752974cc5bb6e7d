"""To the end of the road: with RELION from picks to a density map, for this program, Topaz and the reference."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np

from deeppicker.config import SelectConfig
from deeppicker.core import BOX_DIAMETERS, Ctf, Microscope, Picks
from deeppicker.errors import DeepPickerError
from deeppicker.formats.atomic import atomic_write, make_folder
from deeppicker.formats.relion import defocus
from deeppicker.formats.relion.star import write_coordinates
from deeppicker.formats.star_table import Table as StarTable
from deeppicker.formats.star_table import format_table, read_tables
from deeppicker.particles.ctf import estimate_ctf
from deeppicker.runs.selection import threshold_of
from deeppicker.simulate.volumes import Volume, read_structure
from paper.cache import checksum
from paper.data import Molecule, title_of
from paper.figures import COLOURS, Canvas, shared_legend
from paper.fourier_shells import Cube, aligned, known, resolution, shells
from paper.iteration import as_picked
from paper.others import LEARNT, TOPAZ, by_topaz, rival_picks, topaz_of
from paper.results import Picture, Section, Table, Verdict
from paper.study import Lesson, Study, thinned

STEPS = ("extraction", "2D classification", "initial model", "3D refinement")
REFERENCE = "reference"
_STRUCTURES = {"apoferritin-10146": "6pxm.mrc.gz"}
_SYMMETRY = {"apoferritin-10146": "O"}
_CLASSES = 8
_GOOD = 1.5  # a class is kept if its resolution is within this factor of the best
_FAIR = 0.25  # ... and if it holds this part of a fair share of the particles
_AGREES = 1.15  # resolution in relation to that of the reference


def lessons(_study: Study) -> list[tuple[Lesson, str]]:
    """Return nothing: the default network picks."""
    return []


def run(study: Study, canvas: Canvas) -> Section:
    targets = [name for name in study.settings.map_targets if name in study.targets]
    missing = [name for name in ("relion_preprocess", "relion_refine") if shutil.which(name) is None]
    steps = STEPS[: study.settings.map_steps]
    setup = (
        f"RELION takes the picks of each program through {', '.join(steps)}; at most "
        f"{study.settings.map_particles:,} particles, chosen at random, in images of {study.settings.map_side} pixels. "
        f"Kept are the classes whose resolution is within {_GOOD} of the best and that hold enough particles. Of Topaz "
        "the best picks are taken, as many as there are reference particles, since its scores have no threshold. A map "
        "is compared with the known structure, and with the map of the reference particles, in the orientation and "
        f"hand that fit best. {study.about_default}"
    )
    if missing or not targets:
        reason = f"{', '.join(missing)} not installed" if missing else "no target of this study goes that far"
        return Section("To the map", setup, notes=(f"Left out: {reason}.",))
    roads = {target: _target(study, target) for target in targets}
    outcomes = {target: {name: road.outcome for name, road in row.items()} for target, row in roads.items()}
    left = STEPS[study.settings.map_steps :]
    mapped = any(road.density is not None for row in roads.values() for road in row.values())
    if mapped:
        _draw(canvas, outcomes)
        _draw_maps(canvas, roads)
    return Section(
        "To the map",
        setup,
        tuple(_verdict(target, row) for target, row in outcomes.items()),
        (_table(outcomes), _commands(outcomes)),
        (
            Picture(
                canvas.stem("fsc"),
                "Fourier shell correlation of each map with the known structure (solid), which has no detail right of "
                "the dotted line, and of its two half maps (dashed).",
            ),
            Picture(canvas.stem("maps"), "Slices through maps and structure, turned alike.", image=True),
        )
        * mapped,
        (f"Part of the full study only: {', '.join(left)}.",) if left else (),
    )


def _target(study: Study, target: str) -> dict[str, Road]:
    """Return the roads of each program's picks, walked."""
    found = {REFERENCE: [item.picks for item in study.test(target).dataset.micrographs]}
    model = as_picked(study, target)
    picks = study.picks(model, target)
    threshold = threshold_of(picks, SelectConfig(), model.calibration.caution)
    found[LEARNT] = [one.where(one.scores >= threshold) for one in picks]
    if program := topaz_of(study):
        number = sum(map(len, found[REFERENCE]))
        found[TOPAZ] = _best(rival_picks(study, target, "topaz", by_topaz(program)), number)
    roads = {}
    for name, some in found.items():
        taken = thinned(some, study.settings.map_particles)
        places = [(one.micrograph, one.positions.tolist()) for one in taken]
        key = checksum(places, study.settings.map_side, study.settings.map_iterations)
        folder = study.work / "maps" / f"{target}-{name.partition(',')[0].lower()}-{key}"
        roads[name] = Road(study, study.molecule(target), folder)
        roads[name].walk(taken)
        if name != REFERENCE:
            roads[name].compare(roads[REFERENCE])
    return roads


def _best(picks: Sequence[Picks], number: int) -> list[Picks]:
    """Return so many picks of the highest scores."""
    scores = np.sort(np.concatenate([one.scores for one in picks]))[::-1]
    least = scores[min(number, len(scores)) - 1] if len(scores) else 0.0
    return [one.where(one.scores >= least) for one in picks]


class Road:
    """A project folder of RELION on the way from picks to a map; steps that were done are not done again."""

    def __init__(self, study: Study, molecule: Molecule, folder: Path) -> None:
        self.settings, self.data, self.molecule, self.folder = study.settings, study.data, molecule, folder
        self.log: list[tuple[str, str, float]] = []
        self.outcome: dict[str, object] = {}
        self.done = True  # all steps so far, by an earlier command
        self.density: Cube | None = None
        self.structure: Cube | None = None  # turned onto the map
        pixel = next(iter(molecule.test.info.values())).pixel_size
        self.box = 2 * round(0.5 * 1.2 * BOX_DIAMETERS * molecule.diameter / pixel)
        self.pixel_size = pixel * self.box / self.settings.map_side
        self.symmetry = _SYMMETRY.get(molecule.name, "C1")

    def walk(self, picks: Sequence[Picks]) -> None:
        """Go as far as the picks lead."""
        self.lay_out(picks)
        reached, kept = "nothing", 0
        halves: list[Cube] = []
        try:
            self.extract()
            reached = STEPS[0]
            kept = self.classify()
            reached = STEPS[1]
            if self.settings.map_steps > 2:
                start = self.initial_model()
                self.density = _map(start)
                reached = STEPS[2]
                if self.settings.map_steps > 3:
                    self.density, *halves = self.refine(start)
                    reached = STEPS[3]
        except DeepPickerError as error:
            reached += f"; then: {error}"
        curve = self.against_known()
        side = self.settings.map_side
        between = shells(*halves) if halves else np.zeros(0)
        self.outcome = {
            "picks": sum(map(len, picks)),
            "kept": kept,
            "reached": reached,
            "fsc": curve,
            "halves": between.tolist(),
            "resolution": resolution(np.array(curve), 0.5, side, self.pixel_size) if curve else None,
            "gold": resolution(between, 0.143, side, self.pixel_size) if halves else None,
            "nyquist": 2 * self.pixel_size,
            "known": self._known_to(),
            "alike": None,
            "side": side,
            "pixel_size": self.pixel_size,
            "commands": self.log,
            "seconds": sum(seconds for _, _, seconds in self.log),
        }

    def compare(self, reference: Road) -> None:
        """Add to the outcome how far the map agrees with that of the reference particles."""
        if self.density is not None and reference.density is not None:
            other = aligned(reference.density, self.density, self._tried())
            self.outcome["alike"] = resolution(shells(self.density, other), 0.5, len(other), self.pixel_size)

    def turned_onto(self, other: Cube | None) -> Cube | None:
        """Return the map in the orientation of another one, if there are both."""
        if self.density is None or other is None:
            return self.density
        return aligned(self.density, other, self._tried())

    def lay_out(self, picks: Sequence[Picks]) -> None:
        """Write micrographs with their contrast transfer, and the coordinates."""
        rows: list[tuple[str, float, Ctf]] = []
        for item, found in zip(self.molecule.test.dataset.micrographs, picks, strict=True):
            image, key = item.load(), item.picks.key
            path = self.folder / "Micrographs" / f"{key}.mrc"
            make_folder(path.parent)
            with mrcfile.new(path, image.image.astype(np.float32), overwrite=True) as file:
                file.voxel_size = image.pixel_size
            ctf = self.molecule.test.ctf.get(key) or estimate_ctf(image, Microscope())
            rows.append((f"Micrographs/{key}.mrc", image.pixel_size, ctf))
            place = self.folder / "Picks" / "Micrographs" / f"{key}_autopick.star"
            make_folder(place.parent)
            write_coordinates(place, replace(found, micrograph=f"Micrographs/{key}.mrc"))
        defocus.write(self.folder / "micrographs.star", rows, ours=False)

    def step(self, name: str, result: str, *words: object) -> Path:
        """Run a command of RELION unless its result is there, and that of all commands before; return the result."""
        path, command = self.folder / result, " ".join(map(str, words))
        record = self.folder / f"{name}.json"
        self.done = self.done and path.exists() and record.is_file() and json.loads(record.read_text())[1] == command
        if not self.done:
            for old in set(self.folder.glob("*.json")) - {self.folder / f"{one}.json" for one, _, _ in self.log}:
                old.unlink()  # of this step and those after
            make_folder(path.parent)
            began = time.perf_counter()
            done = subprocess.run(command.split(), cwd=self.folder, capture_output=True, text=True, check=False)
            if done.returncode or not path.exists():
                last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
                raise DeepPickerError(f"{command.split()[0]} failed: {last[0]}")
            atomic_write(record, json.dumps([name, command, time.perf_counter() - began]))
        self.log.append(tuple(json.loads(record.read_text(encoding="utf-8"))))
        return path

    def extract(self) -> None:
        """Extract the particles."""
        side = self.settings.map_side
        self.step(
            "extract", "Extract/particles.star",
            "relion_preprocess --i micrographs.star --coord_dir Picks/ --coord_suffix _autopick.star --extract",
            f"--extract_size {self.box} --scale {side} --norm --bg_radius {3 * side // 8} --invert_contrast",
            "--part_star Extract/particles.star --part_dir Extract/",
        )  # fmt: skip

    def classify(self) -> int:
        """Classify the particles and keep those of good classes; return their number."""
        last = f"Class2D/run_it{self.settings.map_iterations[0]:03d}"
        self.step(
            "classify", f"{last}_data.star",
            "relion_refine --i Extract/particles.star --o Class2D/run", self._shared(),
            f"--K {_CLASSES} --tau2_fudge 2 --iter {self.settings.map_iterations[0]} --psi_step 12 --offset_range 3",
            "--offset_step 2 --norm --scale",
        )  # fmt: skip
        classes = _table_of(self.folder / f"{last}_model.star", "model_classes")
        share = classes.numbers("rlnClassDistribution")
        quality = np.array(classes.text("rlnEstimatedResolution"), dtype=float)  # infinite for empty classes
        enough = share >= _FAIR / _CLASSES
        good = enough & (quality <= _GOOD * quality[enough].min(initial=np.inf))
        optics, particles = (_table_of(self.folder / f"{last}_data.star", name) for name in ("optics", "particles"))
        keep = good[particles.numbers("rlnClassNumber").astype(int) - 1]
        columns = {name: np.array(particles.text(name))[keep].tolist() for name in particles.columns}
        text = format_table("optics", {name: optics.text(name) for name in optics.columns})
        atomic_write(self.folder / "kept.star", text + format_table("particles", columns))
        return int(keep.sum())

    def initial_model(self) -> Path:
        """Make a model from nothing, by stochastic gradient descent as in RELION's job InitialModel.

        It has the molecule's symmetry from the beginning, so that fewer orientations are compared, and less detail
        than in the job, since the refinement begins with 40 Å.
        """
        part, number = self.settings.map_iterations[1], 3 * self.settings.map_iterations[1]
        return self.step(
            "initial-model", f"InitialModel/run_it{number:03d}_class001.mrc",
            "relion_refine --i kept.star --o InitialModel/run", self._shared(),
            f"--sgd --denovo_3dref --K 1 --sym {self.symmetry} --sgd_ini_iter {part} --sgd_inbetween_iter {part}",
            f"--sgd_fin_iter {part} --sgd_write_iter {part} --sgd_ini_resol 40 --sgd_fin_resol 25",
            "--sgd_ini_subset 100 --sgd_fin_subset 200 --healpix_order 1 --offset_range 4 --offset_step 2",
        )  # fmt: skip

    def refine(self, start: Path) -> tuple[Cube, Cube, Cube]:
        """Return the refined map and its two halves."""
        root = "--allow-run-as-root " if os.geteuid() == 0 else ""
        self.step(
            "refine", "Refine3D/run_class001.mrc",
            f"mpirun -n 3 {root}--oversubscribe --bind-to none relion_refine_mpi --i kept.star --o Refine3D/run",
            self._shared().replace("--j 2", "--j 1"),
            f"--auto_refine --split_random_halves --ref {start.relative_to(self.folder)} --ini_high 40",
            f"--sym {self.symmetry} --healpix_order 1",
            "--auto_local_healpix_order 2 --offset_range 5 --offset_step 2 --low_resol_join_halves 40 --norm --scale",
        )  # fmt: skip
        names = ("run_class001", "run_half1_class001_unfil", "run_half2_class001_unfil")
        whole, one, other = (_map(self.folder / "Refine3D" / f"{name}.mrc") for name in names)
        return whole, one, other

    def against_known(self) -> list[float]:
        """Return the correlation with the known structure, by shell; empty where none is known."""
        volume = self._volume()
        if volume is None or self.density is None:
            return []
        structure = known(volume, len(self.density), self.pixel_size)
        self.structure = aligned(structure, self.density, self._tried())
        return [float(value) for value in shells(self.density, self.structure)]

    def _tried(self) -> int:
        return 1500 if self.settings.map_steps > 3 else 300

    def _known_to(self) -> float | None:
        """Return the detail that the known structure has, in Å: two of its voxels."""
        volume = self._volume()
        return None if volume is None else 2 * volume.voxel_size

    def _volume(self) -> Volume | None:
        if self.molecule.volume is not None:
            return self.molecule.volume
        name = _STRUCTURES.get(self.molecule.name)
        return None if name is None or self.data is None else read_structure(self.data / "structures" / "maps" / name)

    def _shared(self) -> str:
        return (
            f"--ctf --particle_diameter {1.2 * self.molecule.diameter:.0f} --flatten_solvent --zero_mask "
            "--oversampling 1 --pad 1 --pool 30 --preread_images --dont_combine_weights_via_disc --random_seed 1 --j 2"
        )


def _map(path: Path) -> Cube:
    return np.array(mrcfile.read(path), dtype=np.float32)


def _table_of(path: Path, name: str) -> StarTable:
    return next(one for one in read_tables(path) if one.name == name)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("inf")


def _verdict(target: str, row: dict[str, dict[str, object]]) -> Verdict:
    ours, reference = row[LEARNT], row[REFERENCE]
    coarse = _number(reference["known"]) > _number(reference["gold"])  # the structure knows less than the maps
    measure = "gold" if coarse else "resolution"
    mine, theirs = _number(ours[measure]), _number(reference[measure])
    how = "correlation of two half maps; the known structure is coarser" if coarse else "correlation with the structure"
    found = f"{mine:.1f} Å against {theirs:.1f} Å, by the {how}"
    if not np.isfinite(mine):
        found = "no map to compare" if not np.isfinite(theirs) else f"no map against one of {theirs:.1f} Å"
    at_the_limit = max(mine, theirs) <= _number(ours["nyquist"])
    alike = ours["reached"] == reference["reached"]
    return Verdict(
        f"(Ours:) picks lead to as good a map as the reference particles ({title_of(target)}).",
        found,
        None if not np.isfinite(theirs) or at_the_limit or not alike else mine <= _AGREES * theirs,
        f"As good means within {_AGREES - 1:.0%}. Of {ours['picks']} picks {ours['kept']} are kept, of "
        f"{reference['picks']} reference particles {reference['kept']}; the limit of the pixels is "
        f"{_number(ours['nyquist']):.1f} Å. The picks reach: {ours['reached']}; the reference: {reference['reached']}.",
    )


def _draw(canvas: Canvas, outcomes: dict[str, dict[str, dict[str, object]]]) -> None:
    with canvas.panels("fsc", len(outcomes), sharey=True) as axes:
        for panel, (target, row) in zip(axes, outcomes.items(), strict=True):
            for (name, one), colour in zip(row.items(), COLOURS, strict=False):
                curve = one["fsc"]
                side, pixel_size = _number(one["side"]), _number(one["pixel_size"])
                frequency = np.arange(side // 2 + 1) / (side * pixel_size)
                if isinstance(curve, list) and curve:
                    panel.plot(frequency, curve, color=colour, label=name)
                halves = one["halves"]
                if isinstance(halves, list) and halves:
                    panel.plot(frequency, halves, color=colour, linestyle="--", linewidth=1)
                if one["known"] is not None:
                    panel.axvline(1 / _number(one["known"]), color="0.5", linestyle=":", linewidth=1)
            panel.axhline(0.5, color="0.3", linestyle="--", linewidth=1)
            panel.set(title=title_of(target), xlabel="1/Å", ylim=(-0.1, 1.02))
        axes[0].set_ylabel("shell correlation")
        shared_legend(axes, len(axes))


def _draw_maps(canvas: Canvas, roads: dict[str, dict[str, Road]]) -> None:
    columns = max(map(len, roads.values())) + 1
    with canvas.panels("maps", columns, len(roads), size=(1.5, 1.6), axis=False) as axes:
        for row, walked in zip(np.reshape(axes, (-1, columns)), roads.values(), strict=True):
            structure = walked[REFERENCE].structure
            shown = {name: road.turned_onto(structure) for name, road in walked.items()} | {"structure": structure}
            for panel, (name, density) in zip(row, shown.items(), strict=False):
                if density is not None:
                    panel.imshow(density[len(density) // 2], cmap="gray")
                    panel.set_title(name, fontsize=8)


def _table(outcomes: dict[str, dict[str, dict[str, object]]]) -> Table:
    def shown(value: object) -> str:
        return "–" if value is None else f"{_number(value):.1f}"

    rows = tuple(
        (
            title_of(target), name, shown(one["gold"]), shown(one["alike"]), shown(one["resolution"]),
            shown(one["known"]), shown(one["nyquist"]),
            f"{one['picks']:,}", f"{one['kept']:,}", f"{_number(one['seconds']):,.0f}", str(one["reached"]),
        )
        for target, row in outcomes.items()
        for name, one in sorted(row.items(), key=lambda item: _number(item[1]["gold"]))
    )  # fmt: skip
    head = ("target", "picks of", "Å, half maps", "Å, against the map of the reference", "Å, against the structure",
            "Å, limit of the structure", "Å, limit of the pixels", "picks", "kept", "seconds", "as far as")  # fmt: skip
    return Table("Maps, the best first", head, rows)


def _commands(outcomes: dict[str, dict[str, dict[str, object]]]) -> Table:
    rows = []
    for target, row in outcomes.items():
        log = row[LEARNT]["commands"]
        for name, command, seconds in log if isinstance(log, list) else []:
            rows.append((f"{title_of(target)}: {name}", str(command), f"{seconds:,.0f}"))
    return Table(
        "Commands for the picks of DeepPicker, in their project folder", ("step", "command", "seconds"), tuple(rows)
    )
