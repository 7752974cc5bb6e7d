"""Simulated micrographs: physics where it can be checked, truth where it is written, the same again for a seed."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch_fourier_slice import project_3d_to_2d

from deeppicker.cli.main import main
from deeppicker.config import CropConfig
from deeppicker.core import Ctf, Microscope
from deeppicker.errors import FormatError, InputError
from deeppicker.formats import read_picks
from deeppicker.formats.star_table import read_tables
from deeppicker.networks.dense import DenseNetwork
from deeppicker.simulate import contamination, ice, volumes
from deeppicker.simulate.config import SimulateConfig
from deeppicker.simulate.contamination import Specimen
from deeppicker.simulate.dataset import invent_shapes
from deeppicker.simulate.optics import Optics, frequencies, image_of, random_field, record, transfer
from deeppicker.simulate.placement import orient, pack, place
from deeppicker.simulate.processing import bordered, denoise, flatten, lowpass, quantise
from deeppicker.simulate.scene import simulate_micrograph
from deeppicker.simulate.shapes import SHAPES, in_membrane, invent, oligomer
from deeppicker.simulate.volumes import from_density, project, project_to, read_structure, resample
from deeppicker.training.crops import draw_batch
from deeppicker.training.data import load_dataset
from deeppicker.training.plates import load_plates

OPTICS = Optics(pixel_size=2.0, ctf=Ctf(defocus_u=1.6, defocus_v=1.6), b_factor=0.0, dose=40.0)
PLAIN = SimulateConfig(
    size=(200, 160),
    pixels_across=(20.0, 20.0),
    contamination=0.0,
    empty=0.0,
    processed=0.0,
    mixed=0.0,
    membranes=0.0,
    crowded=0.0,
    packed=0.0,
    borders=0.0,
    clustered=0.0,
    preferred=0.0,
)


def ball(side: int = 40, radius: float = 12.0) -> np.ndarray:
    z, y, x = np.indices((side, side + 4, side + 8)) - np.array([18, 20, 25]).reshape(3, 1, 1, 1)
    return (np.sqrt(x**2 + y**2 + z**2) < radius).astype(np.float32)


def write_map(path: Path, density: np.ndarray, voxel: float = 4.0) -> Path:
    with mrcfile.new(path, density.astype(np.float32), overwrite=True) as file:
        file.voxel_size = voxel
    return path


# --- particles ------------------------------------------------------------------------------------


def test_a_map_is_centred_on_its_mass_measured_and_scaled(tmp_path: Path):
    path = write_map(tmp_path / "a ball.mrc", 7.0 * ball() - 0.01)
    volume = read_structure(path)
    assert volume.name == "a ball"
    assert volume.diameter == pytest.approx(2 * 12 * 4.0 * 0.95 ** (1 / 3), rel=0.05)
    assert np.array(ndimage.center_of_mass(volume.density)) == pytest.approx([len(volume.density) // 2] * 3, abs=0.1)
    assert volume.density.max() == pytest.approx(1.0, abs=0.01)


def test_a_compressed_map_is_the_same(tmp_path: Path):
    plain = write_map(tmp_path / "ball.mrc", ball())
    packed = tmp_path / "packed.map.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert (read_structure(packed).density == read_structure(plain).density).all()


@pytest.mark.parametrize("extension", ["pdb", "cif", "pdb.gz"])
def test_an_atomic_model_becomes_the_density_of_its_atoms(tmp_path: Path, extension: str):
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    chain = gemmi.Chain("A")
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 3))
    points = 40 * points / np.linalg.norm(points, axis=1, keepdims=True)  # a hollow shell of 80 Å
    for index, point in enumerate(points):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(str(index + 1))
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(*point)
        residue.add_atom(atom)
        chain.add_residue(residue)
    structure[0].add_chain(chain)
    path = tmp_path / f"shell.{extension}"
    text = structure.make_mmcif_document().as_string() if extension == "cif" else structure.make_pdb_string()
    path.write_bytes(gzip.compress(text.encode()) if extension.endswith("gz") else text.encode())
    volume = read_structure(path)
    centre = len(volume.density) // 2
    assert volume.diameter == pytest.approx(80, rel=0.15)
    assert volume.density[centre, centre, centre] < 0.3 < volume.density.max()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bad.mrc", b"nonsense", "density map"),
        ("bad.pdb", b"nonsense\n", "no atoms"),
        ("bad.cif", b"data_x\nloop_\n_a.b\n_a.c\n1 2 3\n", "atomic model"),
        ("bad.txt", b"x", "neither a map nor a model"),
        ("bad.mrc.gz", b"\x1f\x8bbroken", "density map"),
    ],
)
def test_what_is_no_structure_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, words: str, capsys):
    (tmp_path / name).write_bytes(content)
    assert main(["simulate", str(tmp_path / name), "--output", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert name in message
    assert words in message
    assert not (tmp_path / "out").exists()


def test_empty_maps_missing_files_and_flat_images_are_refused(tmp_path: Path):
    with pytest.raises(FormatError, match=r"empty\.mrc holds no positive density"):
        read_structure(write_map(tmp_path / "empty.mrc", -ball()))
    with pytest.raises(FormatError, match="three-dimensional"):
        read_structure(write_map(tmp_path / "flat.mrc", ball()[0]))
    with pytest.raises(FormatError, match="voxel sizes"):
        read_structure(write_map(tmp_path / "unit.mrc", ball(), 0.0))
    with pytest.raises(InputError, match="does not exist"):
        read_structure(tmp_path / "missing.mrc")


def test_a_diameter_larger_than_the_micrograph_is_refused(tmp_path: Path, capsys):
    path = write_map(tmp_path / "ball.mrc", ball())
    words = ["--size", "100", "100", "--pixel-size", "0.5", "--output", str(tmp_path / "out")]
    assert main(["simulate", str(path), *words]) == 2
    assert "larger than a micrograph of 100×100 px" in capsys.readouterr().err


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 70, 200), (120, 20, 15)])
def test_a_projection_equals_the_sum_along_the_turned_volume(angles: tuple[float, float, float]):
    density = np.zeros((45, 45, 45), np.float32)
    for z, y, x, radius in ((22, 22, 22, 6), (30, 20, 24, 4), (14, 28, 20, 3), (24, 12, 30, 3)):
        grid = np.indices(density.shape) - np.array([z, y, x]).reshape(3, 1, 1, 1)
        density += np.exp(-0.5 * (grid**2).sum(axis=0) / (0.5 * radius) ** 2).astype(np.float32)
    volume = from_density("blobs", density, 2.0)
    rotation = Rotation.from_euler("ZYZ", [angles], degrees=True)
    image = project(volume, rotation)[0]
    # RELION's convention: what lies at q in the image lies at R q in the particle, R = Rz(rot) Ry(tilt) Rz(psi).
    matrix = rotation.as_matrix()[0][::-1, ::-1]  # on (z, y, x)
    centre = np.full(3, len(volume.density) // 2)
    turned = ndimage.affine_transform(volume.density, matrix, centre - matrix @ centre, order=1)
    expected = 2.0 * turned.sum(axis=0)
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.995
    assert image.sum() == pytest.approx(expected.sum(), rel=0.03)


@pytest.mark.parametrize("side", [150, 217])
def test_images_of_small_pixels_are_those_of_the_volume_at_that_size(side: int):
    volume = invent(np.random.default_rng(2), 200.0)
    rotations = Rotation.random(3, random_state=1)
    size = len(volume.density) * volume.voxel_size / side
    images, expected = project_to(volume, rotations, size), project(resample(volume, size), rotations)
    if side < 192:
        assert np.array_equal(images, expected)
        return
    middle, half = (one.shape[1] // 2 for one in (images, expected))
    shown = images[:, middle - half : middle + half, middle - half : middle + half]
    assert images.sum() == pytest.approx(expected.sum(), rel=0.01)
    assert np.abs(shown - expected).max() < 0.05 * expected.max()
    moved = [np.vdot(np.roll(shown, step, axis), expected) for axis in (1, 2) for step in (-1, 1)]
    assert np.vdot(shown, expected) > max(moved)


def test_projections_are_made_in_parts_that_the_memory_of_a_card_holds(monkeypatch: pytest.MonkeyPatch):
    volume = invent(np.random.default_rng(2), 90.0)
    rotations = Rotation.random(70, rng=np.random.default_rng(0))
    whole = project(volume, rotations)
    sizes = []

    def small(density: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        if len(part) > 32:
            raise torch.OutOfMemoryError("card")
        return project_3d_to_2d(density, part)

    monkeypatch.setattr(volumes, "project_3d_to_2d", small)
    np.testing.assert_allclose(project(volume, rotations), whole, atol=1e-5)
    assert sizes == [70, 70, 64, 32, 32, 6]


def test_resampling_keeps_mass_and_size():
    volume = from_density("ball", ball(), 4.0)
    for size in (3.0, 6.5):
        other = resample(volume, size)
        assert other.density.sum() * size**3 == pytest.approx(volume.density.sum() * 64, rel=0.05)
        assert from_density("again", other.density, size).diameter == pytest.approx(volume.diameter, rel=0.06)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_every_invented_shape_has_the_size_that_was_asked_for(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("deeppicker.simulate.shapes.SHAPES", {kind: SHAPES[kind]})
    volume = invent(np.random.default_rng(1), 220.0)
    assert volume.diameter == 220.0
    assert from_density("again", volume.density, volume.voxel_size).diameter == pytest.approx(220.0, rel=0.1)


def test_a_membrane_adds_density_around_the_particle():
    z, y, x = np.indices((40, 30, 30)) - np.array([20, 15, 15]).reshape(3, 1, 1, 1)
    slim = ((np.hypot(x, y) < 4) & (np.abs(z) < 16)).astype(np.float32)
    bare = from_density("slim", slim, 4.0)
    held = [in_membrane(np.random.default_rng(seed), bare) for seed in range(6)]
    assert min(volume.density.sum() for volume in held) > 1.3 * bare.density.sum()
    assert all(volume.diameter < 1.6 * bare.diameter for volume in held)


def test_an_oligomer_holds_whole_copies_that_touch():
    bare = from_density("ball", ball(), 4.0)
    for seed in range(5):
        joined = oligomer(np.random.default_rng(seed), bare)
        copies = joined.density.sum() / bare.density.sum()
        assert copies == pytest.approx(round(copies), abs=0.25)
        assert 2 <= round(copies) <= 4
        assert 1.5 * bare.diameter < joined.diameter < 2.6 * bare.diameter


# --- optics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("defocus", [0.7, 1.6, 3.3])
def test_thon_rings_lie_where_the_contrast_transfer_says(defocus: float):
    optics = replace(OPTICS, ctf=Ctf(defocus_u=defocus, defocus_v=defocus))
    rng = np.random.default_rng(0)
    shape = (384, 384)
    phase = 0.02 * random_field(shape, 0.0, 0.0, rng)
    power = np.abs(np.fft.rfft2(image_of(phase, np.zeros(shape, np.float32), optics))) ** 2
    q = frequencies(shape, optics.pixel_size)
    bins = np.digitize(q.ravel(), np.arange(0.004, 0.2, 0.002))
    mean = np.bincount(bins, power.ravel()) / np.bincount(bins)
    centres = np.bincount(bins, q.ravel()) / np.bincount(bins)
    wavelength = 0.0197  # Å at 300 kV
    zero = np.sqrt((1 - np.arcsin(0.1) / np.pi) / (wavelength * 1e4 * defocus))  # first zero without aberration
    found = centres[np.argmin(np.where(np.abs(centres - zero) < 0.4 * zero, mean, np.inf))]
    assert found == pytest.approx(zero, rel=0.06)


def test_astigmatism_stretches_the_rings_along_its_angle():
    optics = replace(OPTICS, ctf=Ctf(defocus_u=2.4, defocus_v=1.2, angle=30.0))
    dark = transfer(optics, (256, 256))
    q = 0.02 * 2.0 * 256  # 1/50 Å in elements of the transform: here the contrast still grows with defocus
    angles = np.arange(-85, 90, 5)
    rows, columns = (np.rint(q * f(np.radians(angles))).astype(int) for f in (np.sin, np.cos))
    strength = -dark[rows % 256, columns]
    doubled = np.angle((strength * np.exp(2j * np.radians(angles))).sum(), deg=True) / 2
    assert doubled == pytest.approx(30.0, abs=6.0)


def test_particles_are_dark_with_and_without_a_phase_plate():
    phase = np.zeros((128, 128), np.float32)
    phase[54:74, 54:74] = 0.1
    for shift in (0.0, 60.0, 90.0):
        ctf = replace(OPTICS.ctf, microscope=Microscope(phase_shift=shift))
        image = image_of(phase, np.zeros_like(phase), replace(OPTICS, ctf=ctf))
        assert image[54:74, 54:74].mean() < image[:30].mean()


def test_the_dose_decides_the_noise():
    flat = np.ones((200, 200), np.float32)
    for dose in (10.0, 40.0):
        counts = record(flat, replace(OPTICS, dose=dose), 0.0, np.random.default_rng(0))
        assert counts.mean() == pytest.approx(dose * 4, rel=0.01)
        assert counts.std() == pytest.approx(np.sqrt(dose * 4), rel=0.03)


# --- scenes ---------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(3, 30), st.integers(0, 5))
def test_placed_particles_keep_their_distance_and_off_the_junk(seed: int, distance: float, clusters: int):
    rng = np.random.default_rng(seed)
    free = np.ones((90, 130), dtype=bool)
    free[20:60, 40:90] = False
    points = place(free, 60, distance, clusters, rng)
    assert free[points[:, 1], points[:, 0]].all()
    if len(points) > 1:
        assert cKDTree(points).query(points, k=2)[0][:, 1].min() >= distance


@hypothesis_settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(12, 30))
def test_packed_particles_lie_in_rows_with_vacancies(seed: int, distance: float):
    free = np.ones((180, 260), dtype=bool)
    free[20:60, 40:90] = False
    points = pack(free, distance, np.random.default_rng(seed))
    assert free[points[:, 1], points[:, 0]].all()
    if len(points) > 30:
        nearest = cKDTree(points).query(points, k=2)[0][:, 1]
        assert np.median(nearest) == pytest.approx(distance, rel=0.25)
        assert nearest.min() > 0.35 * distance


def test_a_vacancy_among_packed_particles_is_no_particle():
    volume = from_density("ball", ball(), 4.0)
    scene = simulate_micrograph(volume, (), replace(PLAIN, size=(300, 260), packed=1.0), np.random.default_rng(3))
    tree = cKDTree(scene.positions)
    middles = np.argwhere(np.ones((260, 300), dtype=bool))[:, ::-1]
    around = np.array([len(near) for near in tree.query_ball_point(middles, 30)])
    vacant = middles[(around >= 5) & (tree.query(middles)[0] > 16)]
    assert len(scene.positions) > 60
    assert len(vacant) > 0


@pytest.mark.parametrize("seed", range(8))
def test_borders_repeat_or_are_constant_and_are_masked(seed: int):
    image = np.random.default_rng(100).normal(size=(200, 240)).astype(np.float32)
    edged, mask = bordered(image, np.random.default_rng(seed))
    assert (edged[~mask] == image[~mask]).all()
    assert not mask[20:-20, 20:-20].any()
    repeated = [(np.diff(edged, axis=axis) == 0).any() for axis in (0, 1)]
    assert any(repeated) == mask.any()


def test_no_particle_of_the_truth_lies_in_a_border():
    volume = from_density("ball", ball(), 4.0)
    scenes = [
        simulate_micrograph(volume, (), replace(PLAIN, borders=1.0, coverage=(0.6, 0.6)), np.random.default_rng(seed))
        for seed in range(8)
    ]
    assert sum(scene.junk.any() for scene in scenes) > 3
    for scene in scenes:
        assert not scene.junk[scene.positions[:, 1], scene.positions[:, 0]].any()
        assert len(scene.positions) == len(scene.species) == len(scene.angles)


def test_preferred_orientations_share_a_few_views():
    def spread(rotations: Rotation) -> float:
        views = rotations.inv().apply([0, 0, 1])
        return float(np.linalg.eigvalsh(views.T @ views / len(views))[0])

    rng = np.random.default_rng(3)
    assert spread(orient(400, False, rng)) > 0.28
    assert min(spread(orient(400, True, np.random.default_rng(s))) for s in range(5)) < 0.15


def test_particles_lie_where_the_truth_says():
    volume = from_density("ball", ball(), 4.0)
    config = replace(
        PLAIN, contrast=(3.0, 3.0), solvent=(0.3, 0.3), dose=(500.0, 500.0), spacing=(1.2, 1.2), coverage=(0.3, 0.3)
    )
    scene = simulate_micrograph(volume, (), config, np.random.default_rng(0))
    assert scene.image.shape == (160, 200)
    assert len(scene.positions) > 8
    smooth = ndimage.gaussian_filter(flatten(scene.image, 30.0), 5.0)
    minima = np.argwhere((smooth == ndimage.minimum_filter(smooth, 11)) & (smooth < -0.5 * smooth.std()))[:, ::-1]
    inner = ((scene.positions > 12) & (scene.positions < np.array([188, 148]))).all(axis=1)
    assert cKDTree(minima).query(scene.positions[inner])[0].max() < 3.0


@pytest.mark.parametrize("binning", [1, 2, 3])
def test_binning_keeps_size_pixel_size_and_truth(binning: int):
    volume = from_density("ball", ball(), 4.0)
    config = replace(
        PLAIN, binning=binning, contrast=(3.0, 3.0), solvent=(0.3, 0.3), dose=(300.0, 300.0), coverage=(0.2, 0.2)
    )
    scene = simulate_micrograph(volume, (), config, np.random.default_rng(1))
    assert scene.image.shape == scene.junk.shape == (160, 200)
    assert scene.pixel_size == pytest.approx(volume.diameter / 20)
    smooth = ndimage.gaussian_filter(flatten(scene.image, 30.0), 4.0)
    at = smooth[scene.positions[:, 1], scene.positions[:, 0]]
    assert len(at) > 4
    assert at.mean() < smooth.mean() - smooth.std()


def test_oligomers_are_a_species_of_their_own():
    volume = from_density("ball", ball(), 4.0)
    scene = simulate_micrograph(
        volume, (), replace(PLAIN, oligomers=1.0, coverage=(0.6, 0.6)), np.random.default_rng(0)
    )
    assert set(scene.species.tolist()) == {0, 1}


def test_an_empty_micrograph_has_no_particles():
    volume = from_density("ball", ball(), 4.0)
    scene = simulate_micrograph(volume, (), replace(PLAIN, empty=1.0, contamination=0.5), np.random.default_rng(0))
    assert scene.positions.shape == (0, 2)


@pytest.mark.parametrize("name", [*contamination.KINDS, *ice.KINDS, "crystalline", "film", "textured"])
def test_every_contamination_shows_and_is_finite(name: str):
    shape = (220, 260)
    specimen = Specimen(*(np.zeros(shape, np.float32) for _ in range(2)), np.zeros(shape, bool), 4.0, 150.0)
    special = {"crystalline": contamination.crystalline, "film": contamination.whole_film, "textured": ice.textured}
    draw = special[name] if name in special else (contamination.KINDS | ice.KINDS)[name][1]
    for seed in range(6):
        draw(specimen, np.random.default_rng(seed))
    assert np.isfinite(specimen.potential).all()
    assert np.isfinite(specimen.absorption).all()
    assert np.abs(specimen.potential).max() + np.abs(specimen.absorption).max() > 0
    if name not in ("debris", "filaments", "clouds"):
        assert specimen.junk.any()


@pytest.mark.parametrize("texture", ice.TEXTURES)
def test_a_texture_stays_in_its_region_and_marks_it(texture: Callable[..., None]):
    shape = (220, 260)
    specimen = Specimen(*(np.zeros(shape, np.float32) for _ in range(2)), np.zeros(shape, bool), 4.0, 150.0)
    region = np.zeros(shape, np.float32)
    region[40:160, 60:200] = 1
    texture(specimen, np.random.default_rng(2), region)
    drawn = np.abs(specimen.potential) + np.abs(specimen.absorption)
    assert drawn[region == 0].max() == 0
    assert drawn[region == 1].max() > 0
    assert (specimen.junk == (region == 1)).all()


def test_drops_are_of_many_sizes_in_relation_to_the_particle():
    sizes = []
    for seed in range(40):
        shape = (500, 500)
        specimen = Specimen(*(np.zeros(shape, np.float32) for _ in range(2)), np.zeros(shape, bool), 4.0, 120.0)
        contamination.drops(specimen, np.random.default_rng(seed))
        labels, number = ndimage.label(specimen.junk)
        areas = ndimage.sum_labels(specimen.junk, labels, range(1, number + 1))
        sizes += (2 * np.sqrt(areas / np.pi) / 30).tolist()  # in diameters of the particle
    assert np.quantile(sizes, 0.1) < 0.5
    assert np.quantile(sizes, 0.9) > 1.5


def test_processing_does_what_its_name_says():
    image = np.random.default_rng(0).normal(size=(80, 90)).astype(np.float32)
    assert lowpass(image, 2.0).std() < 0.2
    assert denoise(image, 5, 1.0).std() < 0.6
    assert abs(ndimage.uniform_filter(flatten(image + 50, 5.0), 21)).max() < 0.2
    assert set(np.unique(quantise(image, 64))) <= set(range(64))


# --- folders --------------------------------------------------------------------------------------


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    path = write_map(tmp_path / "ball one.mrc", ball())
    words = ["--size", "180", "160", "--pixels-across", "20", "20", "--micrographs", "3", "--empty", "0.3"]
    assert main(["simulate", str(path), "--shapes", "1", "--output", str(tmp_path / "out"), "--seed", "5", *words]) == 0
    return tmp_path / "out"


def test_a_folder_holds_what_training_and_evaluation_read(simulated: Path):
    folder = simulated / "ball one"
    dataset = load_dataset(folder / "particles.star")
    described = json.loads((folder / "dataset.json").read_text())
    assert dataset.diameter == described["particle_diameter_angstrom"]
    assert len(dataset) == described["num_particles"] == sum(len(p) for p in read_picks(folder / "particles.star"))
    assert len(dataset.micrographs) == 3  # those without a particle too
    for item in dataset.micrographs:
        micrograph = item.load()
        assert micrograph.image.shape == (160, 180)
        assert micrograph.pixel_size == pytest.approx(described["particle_diameter_angstrom"] / 20, rel=0.2)
        assert item.mask is not None
        assert len(item.picks.outside(micrograph.image.shape)) == 0


def test_all_parameters_are_in_the_star_file(simulated: Path):
    tables = {table.name: table for table in read_tables(simulated / "ball one" / "micrographs.star")}
    defocus = tables["micrographs"].numbers_or_nan("rlnDefocusU")
    assert ((defocus > 4000) & (defocus < 41_000)).all()
    assert "rlnVoltage" in tables["optics"]
    for label in ("Contrast", "IceThickness", "Dose", "BFactor", "Contamination", "Processing"):
        assert f"deeppicker{label}" in tables["simulation"]


def test_the_same_seed_gives_the_same_files_and_another_gives_others(simulated: Path, tmp_path: Path):
    words = ["--size", "180", "160", "--pixels-across", "20", "20", "--micrographs", "3", "--empty", "0.3"]
    made = {}
    for seed in ("5", "6"):
        out = tmp_path / f"again{seed}"
        inputs = [str(tmp_path / "ball one.mrc"), "--shapes", "1"]
        assert main(["simulate", *inputs, "--output", str(out), "--seed", seed, *words]) == 0
        made[seed] = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    first = {path.relative_to(simulated): path.read_bytes() for path in simulated.rglob("*") if path.is_file()}
    assert made["5"] == first
    assert made["6"] != first


def test_what_is_there_is_not_made_again_and_what_is_missing_is(simulated: Path, tmp_path: Path):
    words = ["--size", "180", "160", "--pixels-across", "20", "20", "--micrographs", "3", "--empty", "0.3"]
    kept = simulated / "ball one" / "micrographs" / "ball one_0001.mrc"
    content, time = kept.read_bytes(), kept.stat().st_mtime_ns
    shape = next(simulated.glob("shape*"))
    (shape / "dataset.json").write_text("[" * 100_000)  # as good as none
    path = str(tmp_path / "ball one.mrc")
    assert main(["simulate", path, "--shapes", "1", "--output", str(simulated), "--seed", "5", *words]) == 0
    assert json.loads((shape / "dataset.json").read_text())["num_micrographs"] == 3
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == (content, time)


@pytest.mark.slow
def test_workers_do_not_change_the_result(simulated: Path, tmp_path: Path):
    words = ["--size", "180", "160", "--pixels-across", "20", "20", "--micrographs", "3", "--empty", "0.3"]
    inputs = [str(tmp_path / "ball one.mrc"), "--shapes", "1"]
    out = tmp_path / "parallel"
    assert main(["simulate", *inputs, "--output", str(out), "--seed", "5", "--workers", "2", *words]) == 0
    for path in sorted(simulated.rglob("*.mrc")):
        assert (out / path.relative_to(simulated)).read_bytes() == path.read_bytes()


def test_a_folder_that_a_worker_cannot_write_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "out").mkdir()
    for shape in invent_shapes(2, 5):
        (tmp_path / "out" / shape.name).write_text("a file, not a folder", encoding="utf-8")
    words = ["--shapes", "2", "--micrographs", "1", "--size", "180", "160", "--pixels-across", "20", "20"]
    assert main(["simulate", *words, "--output", str(tmp_path / "out"), "--seed", "5", "--workers", "2"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert str(tmp_path / "out" / "shape_") in shown


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--shapes", "0"], "no structure is given"),
        (["--shapes", "1", "--micrographs", "0"], "--micrographs"),
        (["--shapes", "1", "--defocus", "3", "1"], "--defocus 3 1 is not a range"),
        (["--shapes", "1", "--empty", "1.5"], "--empty 1.5 is out of range"),
        (["--shapes", "1", "--voltage", "250"], "--voltage 250"),
        (["--shapes", "1", "--size", "10", "10"], "--size 10 10"),
    ],
)
def test_bad_options_are_one_line(words: list[str], part: str, tmp_path: Path, capsys):
    assert main(["simulate", "--output", str(tmp_path / "out"), *words]) == 2
    assert part in capsys.readouterr().err


# --- crops: what the dense network learns from -----------------------------------------------------


def test_the_map_of_centres_peaks_on_the_particles_of_a_crop(simulated: Path):
    dataset = load_dataset(simulated / "ball one" / "particles.star")
    plates = list(load_plates(dataset, DenseNetwork.preparation))
    config = CropConfig(crop=128, wide=0.0, size_jitter=0.0, noisy=0.0, graded=0.0, blurred=0.0, on_particles=1.0)
    batch = draw_batch(
        [p for p in plates if len(p.centres)], 12, config, DenseNetwork.preparation, np.random.default_rng(0)
    )
    assert batch.images.shape == (12, 128, 128)
    assert batch.centres.shape == (12, 64, 64)
    assert batch.presence.shape == batch.junk.shape == (12, 16, 16)
    known = ~batch.centres.isnan()
    assert batch.centres[known].min() >= 0
    assert batch.centres[known].max() > 0.9
    assert (batch.sizes == -1).all()  # sizes are learnt from crops of a wrong scale only
    # Where the map of centres peaks, the image is darker than elsewhere: the two have the same geometry.
    on, off = batch.centres > 0.9, batch.centres < 0.01
    images = batch.images.reshape(12, 64, 2, 64, 2).mean(dim=(2, 4))
    assert images[on].mean() < images[off].mean() - 0.2
    covered = batch.presence.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    assert (covered[on] == 1).float().mean() > 0.9
