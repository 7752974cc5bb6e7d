"""Draw simulated beside real micrographs for docs/simulation.md: looks, power spectra, particle contrast, Thon rings.

    python recipes/compare_simulation.py DATA WORK

DATA is the folder of the development data, WORK that of recipes/general.sh.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from deeppicker.core import Ctf, Micrograph
from deeppicker.networks.dense import DenseNetwork
from deeppicker.picking.prepare import prepare
from deeppicker.simulate.optics import Optics, frequencies, image_of, random_field, transfer
from deeppicker.training.data import Dataset, load_dataset

REAL = ("apoferritin-10146", "trpv1-10059", "ribosome-10028")
RELATED = {"apoferritin-10146": "6pxm", "trpv1-10059": "6dvw", "ribosome-10028": "6qzp"}
OUTPUT = Path(__file__).parent.parent / "docs" / "images"
SHOWN = 320  # working pixels: 13 particles
PREPARE = DenseNetwork.preparation


def main(data: Path, work: Path) -> None:
    real = {name: load_dataset(data / "real" / name / "particles.star") for name in REAL}
    folders = sorted((work / "sim" / "gen").glob("*/particles.star"))
    simulated = [load_dataset(path) for path in folders[::6]]
    related = {name: load_dataset(work / "sim" / "rel" / RELATED[name] / "particles.star") for name in REAL}
    OUTPUT.mkdir(exist_ok=True)
    draw_looks(real, related, simulated)
    draw_spectra(real, simulated)
    draw_contrast(real, simulated)
    draw_thon_rings()


def prepared(dataset: Dataset, index: int = 0) -> np.ndarray:
    return prepare(dataset.micrographs[index].load(), dataset.diameter, PREPARE).image


def draw_looks(real: dict[str, Dataset], related: dict[str, Dataset], simulated: Sequence[Dataset]) -> None:
    figure = Figure(figsize=(12, 9.3), dpi=80, layout="constrained")
    for row, name in enumerate(REAL):
        columns = [real[name], related[name], simulated[4 * row + 1], simulated[4 * row + 3]]
        for column, dataset in enumerate(columns):
            axes = figure.add_subplot(3, 4, 4 * row + column + 1)
            axes.imshow(prepared(dataset)[:SHOWN, :SHOWN], cmap="gray", vmin=-3, vmax=3)
            kind = "real" if column == 0 else "simulated"
            axes.set_title(f"{kind}: {dataset.name.split('/')[0]}", fontsize=9)
            axes.set_axis_off()
    figure.savefig(OUTPUT / "simulated-and-real.png", metadata={"Software": None})


def draw_spectra(real: dict[str, Dataset], simulated: Sequence[Dataset]) -> None:
    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for dataset in simulated:
        for index in range(3):
            axes.plot(*spectrum(dataset.micrographs[index].load(), dataset.diameter), color="0.8", linewidth=0.6)
    for name, dataset in real.items():
        axes.plot(*spectrum(dataset.micrographs[0].load(), dataset.diameter), label=name)
    axes.set(xlabel="frequency, 1 / particle diameter", ylabel="power (each scaled to 1 on average)", yscale="log")
    axes.set_title("grey: simulated", fontsize=9)
    axes.legend()
    figure.savefig(OUTPUT / "power-spectra.png", metadata={"Software": None})


def spectrum(micrograph: Micrograph, diameter: float) -> tuple[np.ndarray, np.ndarray]:
    """Return frequency and power, radially averaged, of a micrograph as the network sees it."""
    image = prepare(micrograph, diameter, PREPARE).image
    power = np.abs(np.fft.rfft2(image * np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1]))) ** 2
    q = frequencies(image.shape, 1 / PREPARE.diameter_pixels)
    bins = np.digitize(q.ravel(), np.linspace(0.3, 12, 60))
    mean = np.bincount(bins, power.ravel(), 61)[1:60] / np.bincount(bins, minlength=61)[1:60]
    return np.linspace(0.3, 12, 60)[:-1], mean / mean.mean()


def draw_contrast(real: dict[str, Dataset], simulated: Sequence[Dataset]) -> None:
    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    values = [c for dataset in simulated for item in dataset.micrographs if (c := contrast(dataset, item)) is not None]
    axes.hist(values, bins=np.linspace(-0.5, 3, 50), color="0.8", label="simulated")
    for index, (name, dataset) in enumerate(real.items()):
        mine = [c for item in dataset.micrographs if (c := contrast(dataset, item)) is not None]
        axes.plot(mine, np.full(len(mine), 2.0 + index), "o", label=name)
    axes.set(xlabel="darkness of particles against their surroundings, standard deviations", ylabel="micrographs")
    axes.legend()
    figure.savefig(OUTPUT / "particle-contrast.png", metadata={"Software": None})


def contrast(dataset: Dataset, item) -> float | None:
    """Return by how much discs of 0.8 diameters on particles are darker than elsewhere, in deviations of such discs."""
    if len(item.picks) < 5:
        return None
    result = prepare(item.load(), dataset.diameter, PREPARE)
    radius = int(0.4 * PREPARE.diameter_pixels)
    rows, columns = np.indices((2 * radius + 1,) * 2) - radius
    disc = (np.hypot(rows, columns) <= radius).astype(np.float32)
    means = ndimage.convolve(result.image, disc / disc.sum(), mode="reflect")
    x, y = np.rint(result.grid.indices(item.picks.positions)).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < means.shape[1]) & (y < means.shape[0])
    return float((means.mean() - means[y[inside], x[inside]].mean()) / means.std())


def draw_thon_rings() -> None:
    ctf = Ctf(defocus_u=1.8, defocus_v=1.3, angle=30.0)
    optics = Optics(pixel_size=2.0, ctf=ctf, b_factor=50.0, dose=40.0)
    shape = (512, 512)
    phase = 0.02 * random_field(shape, 0.0, 0.0, np.random.default_rng(0))
    image = image_of(phase, np.zeros(shape, np.float32), optics)
    power = ndimage.gaussian_filter(np.log(np.abs(np.fft.fftshift(np.fft.fft2(image))) + 1e-3), 1.5)
    rings = transfer(replace(optics, b_factor=0.0), shape)
    full = np.fft.fftshift(np.concatenate([rings, mirrored(rings)], axis=1))
    figure = Figure(figsize=(8, 4.2), dpi=100, layout="constrained")
    for index, (title, shown) in enumerate(
        (("power of a simulated image", power), ("|contrast transfer|", np.abs(full)))
    ):
        axes = figure.add_subplot(1, 2, index + 1)
        axes.imshow(shown[128:384, 128:384], cmap="gray")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.savefig(OUTPUT / "thon-rings.png", metadata={"Software": None})


def mirrored(half: np.ndarray) -> np.ndarray:
    """Return the other half of the transform of a real image."""
    return np.roll(half[::-1, -2:0:-1], 1, axis=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
