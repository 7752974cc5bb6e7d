"""Simulated data sets on which self-training is measured: each has one particle and one microscope.

Unlike the micrographs for training, those of a set share contrast, dose, ice and pixel size, as those of a collection
do. The particles are structures and invented shapes, most of which no model has been trained on.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from deeppicker.simulate import contamination, ice, scene
from deeppicker.simulate.config import SimulateConfig
from deeppicker.simulate.contamination import Specimen
from deeppicker.simulate.dataset import Plan, make
from deeppicker.simulate.shapes import SHAPES
from deeppicker.simulate.volumes import Volume, read_structure

MICROGRAPHS = 5
SEED = 11
_PROTEIN = 2.5  # V, as in the simulation
_SHARED: Mapping[str, Any] = {
    "size": (640, 640),
    "pixels_across": (30.0, 30.0),
    "defocus": (1.0, 2.6),
    "dose": (40.0, 40.0),
    "b_factor": (100.0, 100.0),
    "amplitude_contrast": (0.1, 0.1),
    "contrast": (0.5, 0.5),
    "solvent": (1.0, 1.0),
    "ice": (400.0, 600.0),
    "coverage": (0.25, 0.3),
    "spacing": (0.9, 0.9),
    "phase_plates": 0.0,
    "crowded": 0.0,
    "packed": 0.0,
    "clustered": 0.0,
    "preferred": 0.0,
    "mixed": 0.0,
    "membranes": 0.0,
    "contamination": 0.0,
    "empty": 0.0,
    "borders": 0.0,
    "processed": 0.0,
}
CROWDED = {"size": (800, 800), "pixels_across": (26.0, 26.0), "coverage": (0.7, 0.8), "spacing": (0.62, 0.62)}
SPARSE = {"coverage": (0.02, 0.03)}


@dataclass(frozen=True)
class Recipe:
    """One data set.

    Parameters
    ----------
    name : str
        Says what is special about it.
    particle : str
        A structure of the development data, or ``kind diameter`` of an invented shape.
    settings : mapping
        Fields of `SimulateConfig` that differ from the shared ones.
    contaminants : sequence of str
        What every micrograph holds besides particles; names of `contamination.KINDS` and of `OWN`.
    second : str
        A second species.
    seed : int
        Of shapes and micrographs.
    """

    name: str
    particle: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    contaminants: tuple[str, ...] = ()
    second: str = ""
    seed: int = SEED


def faint(contrast: float, **settings: Any) -> dict[str, Any]:
    """Return the settings of a set whose particles have so much contrast."""
    return {"contrast": (contrast, contrast), **settings}


RECIPES = (
    Recipe("crowded-asymmetric", "5gjv", faint(0.3, **CROWDED)),
    Recipe("crowded-asymmetric-2", "3iyd", faint(0.4, **CROWDED)),
    Recipe("crowded-membrane", "5vai", faint(0.4, membranes=1.0, **CROWDED)),
    Recipe("crowded-touching", "1u6g", faint(0.45, **{**CROWDED, "spacing": (0.5, 0.5)})),
    Recipe("crowded-domains", "domains 150", faint(0.35, **CROWDED)),
    Recipe("crowded-rings", "ring 140", faint(0.35, **CROWDED)),
    Recipe("crowded-noisy", "gapa", faint(0.6, solvent=(3.0, 3.0), **CROWDED)),
    Recipe("hollow-debris", "shell 380", faint(0.25, coverage=(0.2, 0.25)), ("dark",)),
    Recipe("hollow-debris-2", "1ihm", faint(0.2, coverage=(0.15, 0.2)), ("dark", "debris")),
    Recipe("striped-debris", "barrel 360", faint(0.25, coverage=(0.2, 0.25)), ("dark",)),
    Recipe("striped-bits", "barrel 300", faint(0.3, coverage=(0.15, 0.2)), ("bits",)),
    Recipe("rings-debris", "3cf3", faint(0.4), ("dark", "bits")),
    Recipe("ring-ethane", "ring 200", faint(0.4), ("ethane", "bits")),
    Recipe("shell-gold", "shell 120", faint(0.35), ("gold",)),
    Recipe("compact", "2uv8", faint(0.3)),
    Recipe("compact-strong", "6rd4", faint(0.9)),
    Recipe("compact-debris", "8tux", faint(0.3), ("dark",)),
    Recipe("compact-bits", "4cr2", faint(0.4), ("bits",)),
    Recipe("compact-drops", "5suq", faint(0.4), ("drops",)),
    Recipe("compact-borders", "3d2f", faint(0.4, borders=1.0)),
    Recipe("compact-patches", "2cg9", faint(0.4), ("patches",)),
    Recipe("packed", "5gjv", faint(0.4, packed=1.0)),
    Recipe("compact-carbon", "5suq", faint(0.4), ("carbon",)),
    Recipe("compact-crystals", "2onk", faint(0.4), ("crystals",)),
    Recipe("compact-aggregates", "3d2f", faint(0.5), ("aggregates",)),
    Recipe("compact-filaments", "7n4y", faint(0.4), ("filaments", "bits")),
    Recipe("clustered", "2cg9", faint(0.5, clustered=1.0)),
    Recipe("preferred", "4v94", faint(0.3, preferred=1.0)),
    Recipe("preferred-rods", "rod 300", faint(0.4, preferred=1.0)),
    Recipe("elongated", "3jbh", faint(0.5)),
    Recipe("elongated-2", "6utj", faint(0.35), ("bits",)),
    Recipe("filament-like", "1w5b_8mer", faint(0.5, coverage=(0.12, 0.15))),
    Recipe("rods", "rod 180", faint(0.5)),
    Recipe("rods-debris", "rod 250", faint(0.5), ("dark",)),
    Recipe("discs", "disc 160", faint(0.4)),
    Recipe("discs-thin", "disc 300", faint(0.4), ("bits",)),
    Recipe("small", "1s3x", faint(0.9, coverage=(0.15, 0.2))),
    Recipe("small-crowded", "3qm1", faint(1.0, **CROWDED)),
    Recipe("small-bits", "barrel 75", faint(0.9), ("bits",)),
    Recipe("small-faint", "gapa", faint(0.45, coverage=(0.2, 0.2))),
    Recipe("two-species", "3j9i", faint(0.4, mixed=1.0), (), "2onk"),
    Recipe("two-species-shapes", "domains 170", faint(0.4, mixed=1.0), (), "ring 150"),
    Recipe("sparse", "6rd4", faint(0.4, **SPARSE)),
    Recipe("sparse-debris", "5gjv", faint(0.45, **SPARSE), ("bits",)),
    Recipe("sparse-dark", "shell 200", faint(0.3, **SPARSE), ("dark",)),
    Recipe("sparse-crystals", "4cr2", faint(0.4, **SPARSE), ("crystals",)),
    Recipe("very-faint", "8tux", faint(0.1, coverage=(0.3, 0.35))),
    Recipe("filtered", "4yvs", faint(0.4, processed=1.0)),
    Recipe("filtered-crowded", "domains 200", faint(0.4, processed=1.0, **CROWDED)),
    Recipe("phase-plate", "5suq", faint(0.4, phase_plates=1.0)),
    Recipe("varied", "3d2f", {"contrast": (0.25, 0.9), "solvent": (0.5, 3.0), "ice": (200.0, 1200.0)}),
    Recipe("some-empty", "6utj", faint(0.4, empty=0.5)),
    Recipe("barrels-faint", "barrel 110", faint(0.35)),
    Recipe("small-very-faint", "gapa", faint(0.25)),
    Recipe("small-bits-faint", "3qm1", faint(0.5), ("bits",)),
    Recipe("row-faint", "1w5b_8mer", faint(0.35)),
    Recipe("discs-carbon", "disc 120", faint(0.3), ("carbon", "bits")),
    Recipe("sparse-bits-faint", "5gjv", faint(0.25, **SPARSE), ("bits",)),
    Recipe("empty-ice", "5suq", {"empty": 1.0}),
    Recipe("empty-bits", "3d2f", {"empty": 1.0}, ("bits",)),
    Recipe("empty-bits-ethane", "1u6g", {"empty": 1.0, "size": (1200, 1200)}, ("bits", "ethane")),
    Recipe("empty-dark", "shell 200", {"empty": 1.0}, ("dark",)),
    Recipe("empty-carbon", "8tux", {"empty": 1.0}, ("film",)),
    Recipe("empty-crystalline", "2onk", {"empty": 1.0}, ("crystalline",)),
    Recipe("empty-crystals", "5vai", {"empty": 1.0}, ("crystals", "ethane")),
    Recipe("empty-granular", "4cr2", {"empty": 1.0}, ("granular",)),
    Recipe("empty-diffracting", "6utj", {"empty": 1.0}, ("diffracting",)),
    Recipe("empty-drops", "2uv8", {"empty": 1.0}, ("drops",)),
)
"""All sets; those whose name begins with ``empty`` hold no particle."""

DOUBTFUL = (
    Recipe("w-rod150", "rod 150", faint(0.45), seed=31),
    Recipe("w-rod220", "rod 220", faint(0.35), seed=31),
    Recipe("w-rod300", "rod 300", faint(0.25), seed=31),
    Recipe("w-disc120", "disc 120", faint(0.4), seed=31),
    Recipe("w-8mer", "1w5b_8mer", faint(0.35), seed=31),
    Recipe("w-8mer-bits", "1w5b_8mer", faint(0.5), ("bits",), seed=31),
    Recipe("w-barrel75", "barrel 75", faint(0.9), seed=31),
    Recipe("w-rod-bits", "rod 200", faint(0.5), ("bits",), seed=31),
    Recipe("w-small", "1s3x", faint(0.5), seed=31),
    Recipe("w-disc200", "disc 200", faint(0.2), seed=31),
    Recipe("w-ring", "ring 120", faint(0.2), seed=31),
    Recipe("w-dom", "domains 200", faint(0.12), seed=31),
    Recipe("w-3jbh", "3jbh", faint(0.15), seed=31),
    Recipe("w-rodcrowd", "rod 180", faint(0.4, **CROWDED), seed=31),
    Recipe("w-disccrowd", "disc 160", faint(0.3, **CROWDED), seed=31),
    Recipe("w-barrel110", "barrel 110", faint(0.35), seed=31),
    Recipe("w-gapa", "gapa", faint(0.25), seed=31),
    Recipe("w-rod180", "rod 180", faint(0.3), seed=31),
    Recipe("w-disc160bits", "disc 160", faint(0.4), ("bits",), seed=31),
    Recipe("w-small-bits", "1s3x", faint(0.9), ("bits",), seed=31),
    Recipe("w-empty-bits2", "2onk", {"empty": 1.0}, ("bits", "dark"), seed=31),
    Recipe("w-empty-agg", "3d2f", {"empty": 1.0}, ("aggregates",), seed=31),
    Recipe("w-empty-fil", "3d2f", {"empty": 1.0}, ("filaments", "bits"), seed=31),
    Recipe("w-empty-debris", "3d2f", {"empty": 1.0}, ("debris", "drops"), seed=31),
    Recipe("h-gapa-sp", "gapa", faint(0.45, **SPARSE), ("bits",), seed=31),
    Recipe("h-5gjv-sp", "5gjv", faint(0.25, **SPARSE), ("bits",), seed=31),
    Recipe("h-rod-sp", "rod 150", faint(0.4, **SPARSE), ("dark",), seed=31),
    Recipe("h-ring-sp", "ring 140", faint(0.35, **SPARSE), ("drops",), seed=31),
    Recipe("h-small-sp", "1s3x", faint(0.8, **SPARSE), ("crystals",), seed=31),
    Recipe("h-disc", "disc 120", faint(0.3), ("carbon", "bits"), seed=31),
    Recipe("h-barrel", "barrel 80", faint(1.0), ("bits",), seed=31),
    Recipe("h-dom", "domains 200", faint(0.18), ("debris", "bits"), seed=31),
    Recipe("h-shell", "shell 120", faint(0.2), ("ethane",), seed=31),
    Recipe("h-8tux", "8tux", faint(0.1), ("bits",), seed=31),
    Recipe("h-2cg9", "2cg9", faint(0.12), ("aggregates", "bits"), seed=31),
    Recipe("h-half", "gapa", faint(0.35, empty=0.5), ("bits",), seed=31),
    Recipe("h-6rd4", "6rd4", faint(0.12, coverage=(0.08, 0.1)), ("bits", "dark"), seed=31),
    Recipe("h-3qm1", "3qm1", faint(0.5), ("bits",), seed=31),
    Recipe("h-5vai", "5vai", faint(0.15), ("dark", "bits"), seed=31),
    Recipe("h-two", "rod 160", faint(0.35, mixed=1.0), (), "ring 130", seed=31),
    Recipe("h-empty-bits3", "8tux", {"empty": 1.0}, ("bits", "debris"), seed=31),
    Recipe("h-empty-bits4", "6rd4", {"empty": 1.0}, ("bits",), seed=31),
    Recipe("h-empty-bits5", "gapa", {"empty": 1.0, "contrast": (0.3, 0.3)}, ("bits",), seed=31),
    Recipe("h-empty-gran", "1w5b_8mer", {"empty": 1.0}, ("granular", "bits"), seed=31),
    Recipe("h-empty-diff", "gapa", {"empty": 1.0}, ("diffracting", "bits"), seed=31),
    Recipe("v-rod130", "rod 130", faint(0.35), seed=41),
    Recipe("v-rod170b", "rod 170", faint(0.35), ("bits",), seed=41),
    Recipe("v-disc140", "disc 140", faint(0.35), seed=41),
    Recipe("v-disc110c", "disc 110", faint(0.4, **CROWDED), seed=41),
    Recipe("v-barrel95", "barrel 95", faint(0.4), seed=41),
    Recipe("v-barrel120", "barrel 120", faint(0.25), ("dark",), seed=41),
    Recipe("v-1s3x", "1s3x", faint(0.35), seed=41),
    Recipe("v-3qm1", "3qm1", faint(0.35), seed=41),
    Recipe("v-4yvs", "4yvs", faint(0.12), seed=41),
    Recipe("v-2onk", "2onk", faint(0.2), seed=41),
    Recipe("v-3j9i", "3j9i", faint(0.1), seed=41),
    Recipe("v-4v94", "4v94", faint(0.06), seed=41),
    Recipe("v-utj", "6utj", faint(0.07), seed=41),
    Recipe("v-7n4y", "7n4y", faint(0.1), ("bits",), seed=41),
    Recipe("v-3cf3-sp", "3cf3", faint(0.2, **SPARSE), ("bits",), seed=41),
    Recipe("v-2cg9-sp", "2cg9", faint(0.3, **SPARSE), ("bits", "dark"), seed=41),
    Recipe("v-ring110", "ring 110", faint(0.35), seed=41),
    Recipe("v-ring160d", "ring 160", faint(0.2), ("ethane",), seed=41),
    Recipe("v-shell90", "shell 90", faint(0.4), seed=41),
    Recipe("v-dom110", "domains 110", faint(0.3), ("debris",), seed=41),
    Recipe("v-dom140", "domains 140", faint(0.2), ("crystals",), seed=41),
    Recipe("v-8mer", "1w5b_8mer", faint(0.3), ("dark",), seed=41),
    Recipe("v-8mer2", "1w5b_8mer", faint(0.7, coverage=(0.1, 0.12)), seed=41),
    Recipe("v-1ihm-bits", "1ihm", faint(0.05), ("bits",), seed=41),
    Recipe("v-two", "disc 150", faint(0.3, mixed=1.0), (), "rod 140", seed=41),
    Recipe("v-carb", "1u6g", faint(0.25), ("carbon", "bits"), seed=41),
    Recipe("v-agg", "3d2f", faint(0.15), ("aggregates",), seed=41),
    Recipe("v-empty1", "1u6g", {"empty": 1.0}, ("bits", "ethane"), seed=41),
    Recipe("v-empty2", "4yvs", {"empty": 1.0}, ("bits", "gold"), seed=41),
    Recipe("v-empty3", "3cf3", {"empty": 1.0}, ("bits", "crystals"), seed=41),
    Recipe("v-empty4", "2cg9", {"empty": 1.0}, ("filaments", "aggregates"), seed=41),
)
"""Other sets, most of them faint, sparse, small, long, or without a particle, to choose rules on. They were made when
doubtful starts were first learnt from (``w-``, ``h-``), and to check that (``v-``)."""


def dark(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw dark compact blobs, smaller than the particle, much the same in all micrographs of a set."""
    _blobs(specimen, rng, size=(0.2, 0.55), contrast=1.6, share=0.05)


def bits(specimen: Specimen, rng: np.random.Generator) -> None:
    """Draw bits of about the contrast of a particle, somewhat smaller than it."""
    _blobs(specimen, rng, size=(0.25, 0.65), contrast=0.5, share=0.1)


def _blobs(
    specimen: Specimen, rng: np.random.Generator, size: tuple[float, float], contrast: float, share: float
) -> None:
    """Draw so many blobs per squared diameter of the area; they are junk, and particles keep away from them."""
    height, width = specimen.shape
    diameter = specimen.diameter / specimen.pixel_size
    for _ in range(int(share * height * width / diameter**2)):
        radius = 0.5 * diameter * rng.uniform(*size)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        part, profile, distance = contamination.lump(specimen, rng, x, y, radius, 0.15)
        if distance.size:
            strength = _PROTEIN * contrast * rng.uniform(0.7, 1.3)
            specimen.potential[part] += strength * profile * specimen.pixel_size
            specimen.junk[part] |= distance < 0.9


def _everywhere(
    texture: Callable[[Specimen, np.random.Generator, ice.Region], None],
) -> Callable[[Specimen, np.random.Generator], None]:
    return lambda specimen, rng: texture(specimen, rng, np.ones(specimen.shape, dtype=np.float32))


OWN = {
    "dark": dark,
    "bits": bits,
    "film": contamination.whole_film,
    "crystalline": contamination.crystalline,
    "granular": _everywhere(ice.granular),
    "diffracting": _everywhere(ice.diffracting),
}


def volume(particle: str, maps: Path, seed: int = SEED) -> Volume:
    """Return a structure, or an invented shape of a kind and a diameter."""
    kind, _, diameter = particle.partition(" ")
    if not diameter:
        return read_structure(maps / f"{particle}.mrc.gz")
    rng = np.random.default_rng([seed, zlib.crc32(particle.encode())])
    with mock.patch.dict(SHAPES, {kind: SHAPES[kind]}, clear=True):
        from deeppicker.simulate.shapes import invent

        return replace(invent(rng, float(diameter)), name=particle.replace(" ", "_"))


def simulate_set(recipe: Recipe, maps: Path, output: Path) -> Path:
    """Simulate a set unless it is there; return its folder."""
    known = contamination.KINDS | ice.KINDS
    chosen = {
        name: (0.99, OWN.get(name) or known[name][1]) for name in recipe.contaminants
    }  # 0.99, doubled: in each micrograph
    settings = {**_SHARED, **recipe.settings}
    if chosen:
        settings["contamination"] = 1.0
    others = (volume(recipe.second, maps, recipe.seed),) if recipe.second else ()
    particle = replace(volume(recipe.particle, maps, recipe.seed), name=recipe.name)
    with (
        mock.patch.dict(contamination.KINDS, chosen, clear=True),
        mock.patch.dict(ice.KINDS, clear=True),
        mock.patch.object(scene, "_whole", return_value=[]),
    ):
        make(Plan(particle, others, output / recipe.name, MICROGRAPHS, SimulateConfig(**settings), recipe.seed))
    return output / recipe.name
