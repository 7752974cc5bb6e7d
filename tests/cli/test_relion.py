"""The real RELION: it extracts our picks, classifies them, runs us as an External job; our stacks equal its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

import scenes
from deeppicker.formats import read_picks
from deeppicker.formats.star_table import Table, read_tables
from deeppicker.networks.model import save_model
from deeppicker.simulate import dataset
from deeppicker.simulate.config import SimulateConfig
from deeppicker.simulate.volumes import Volume, from_density, project, resample

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("relion_preprocess") is None, reason="needs RELION (Debian's package relion)"),
]

TOLERANCE = 2e-6  # of the largest pixel: both write 32 bits
CLASSES, ITERATIONS = 4, 12
PIXEL_SIZE, BOX, SIDE = 4.0, 60, 40
DIAMETER = 160.0


def relion(folder: Path, *words: str) -> str:
    """Run a program in a project folder; return what it printed."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def deeppicker(folder: Path, *words: str) -> str:
    return relion(folder, sys.executable, "-m", "deeppicker", *words)


def table(path: Path, name: str) -> Table:
    return next(table for table in read_tables(path) if table.name == name)


def positions_of(particles: Table) -> np.ndarray:
    return np.stack([particles.numbers("rlnCoordinateX"), particles.numbers("rlnCoordinateY")], axis=1)


def extract_job(folder: Path, coordinates: str, output: str, *words: str) -> Table:
    """Extract as the Extract job of RELION 3.1 does; return the particles."""
    options = ["--coord_dir", coordinates, "--coord_suffix", "_autopick.star", "--extract", *words]
    parts = ["--part_star", f"{output}particles.star", "--part_dir", output]
    (folder / output).mkdir(parents=True)
    relion(folder, "relion_preprocess", "--i", "micrographs.star", *options, *parts)
    return table(folder / output / "particles.star", "particles")


def particle() -> Volume:
    """Return five balls in the shape of a hook, which looks different from all sides."""
    z, y, x = np.indices((49, 49, 49)) / 20 - 1.2
    density = np.zeros(z.shape, dtype=np.float32)
    balls = ((-0.65, -0.2, 0, 0.3), (-0.15, -0.2, 0, 0.3), (0.35, -0.2, 0, 0.3), (0.65, 0.2, 0.1, 0.28))
    for a, b, c, radius in (*balls, (0.6, 0.6, 0.25, 0.22)):
        density[(x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < radius**2] = 1
    volume = from_density("hook", ndimage.gaussian_filter(density, 0.7), 1.0)
    return Volume("hook", volume.density, DIAMETER / volume.diameter, DIAMETER)


@pytest.fixture(scope="module")
def project_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of simulated micrographs, picked by the model in the package with nothing given."""
    config = SimulateConfig(
        size=(900, 700),
        pixel_size=PIXEL_SIZE,
        phase_plates=0.0,
        contrast=(1.0, 1.3),
        spacing=(1.1, 1.2),
        coverage=(0.5, 0.5),
        crowded=0.0,
        clustered=0.0,
        preferred=1.0,
        mixed=0.0,
        membranes=0.0,
        contamination=0.0,
        empty=0.0,
        processed=0.0,
        defocus=(1.0, 2.5),
        solvent=(0.3, 0.6),
        b_factor=(30.0, 60.0),
        dose=(40.0, 60.0),
        ice=(200.0, 400.0),
    )
    folder = tmp_path_factory.mktemp("project")
    for plan in dataset.plan_folders([particle()], folder, 3, config, 1):
        dataset.make(plan)
    folder = folder / "hook"
    deeppicker(folder, "relion", "--in_mics", "micrographs.star", "--o", "External/job002/", "--j", "1")
    return folder


@pytest.fixture(scope="module")
def extracted(project_folder: Path) -> Table:
    scaled = ["--extract_size", str(BOX), "--scale", str(SIDE), "--norm", "--bg_radius", "15", "--invert_contrast"]
    return extract_job(project_folder, "External/job002/coordinates/", "Extract/job003/", *scaled)


def test_relion_extracts_exactly_the_picks(project_folder: Path, extracted: Table):
    picks = read_picks(project_folder / "External" / "job002")
    names = np.array(extracted.text("rlnMicrographName"))
    assert len(picks) == 3
    assert len(extracted) == sum(map(len, picks)) > 400
    for item in picks:
        mine = names == item.micrograph
        np.testing.assert_allclose(positions_of(extracted)[mine], item.positions, atol=1e-4)
        stack = mrcfile.read(project_folder / "Extract" / "job003" / Path(item.micrograph).with_suffix(".mrcs"))
        assert stack.shape == (len(item), SIDE, SIDE)


def test_class_averages_show_the_projections_they_came_from(project_folder: Path, extracted: Table):
    (project_folder / "Class2D").mkdir()
    search = ["--psi_step", "12", "--offset_range", "3", "--offset_step", "2", "--oversampling", "1"]
    model = ["--K", str(CLASSES), "--tau2_fudge", "2", "--particle_diameter", "190", "--zero_mask", "--flatten_solvent"]
    run = ["--iter", str(ITERATIONS), "--random_seed", "1", "--pool", "10", "--j", "2", "--preread_images"]
    files = ["--i", "Extract/job003/particles.star", "--o", "Class2D/run"]
    corrections = ["--ctf", "--norm", "--scale", "--pad", "2", "--dont_combine_weights_via_disc"]
    relion(project_folder, "relion_refine", *files, *model, *search, *corrections, *run)
    averages = mrcfile.read(project_folder / "Class2D" / f"run_it{ITERATIONS:03d}_classes.mrcs")
    data = table(project_folder / "Class2D" / f"run_it{ITERATIONS:03d}_data.star", "particles")
    assert len(data) == len(extracted)
    angles = true_angles(data, table(project_folder / "particles.star", "particles"))
    classes = np.where(np.isnan(angles[:, 0]), -1, data.numbers("rlnClassNumber").astype(int) - 1)
    rng = np.random.default_rng(0)
    judged = 0
    for index, average in enumerate(averages):
        members, others = (np.flatnonzero(chosen) for chosen in (classes == index, (classes >= 0) & (classes != index)))
        if len(members) < 20:
            continue
        own, foreign = (
            np.mean([correlation(average, view) for view in views(angles[rng.choice(rows, 10, replace=False)])])
            for rows in (members, others)
        )
        assert own > 0.85
        assert own > foreign + 0.02
        judged += len(members)
    assert judged > 0.9 * len(data)


def true_angles(data: Table, truth: Table) -> np.ndarray:
    """Return rot, tilt and psi of each particle, NaN for those that are none."""
    angles = np.full((len(data), 3), np.nan)
    known = np.stack([truth.numbers(f"rlnAngle{name}") for name in ("Rot", "Tilt", "Psi")], axis=1)
    names, true_names = (np.array(item.text("rlnMicrographName")) for item in (data, truth))
    for name in set(names):
        mine, theirs = np.flatnonzero(names == name), np.flatnonzero(true_names == name)
        distance, nearest = cKDTree(positions_of(truth)[theirs]).query(positions_of(data)[mine])
        angles[mine[distance < 10]] = known[theirs[nearest[distance < 10]]]
    return angles


def views(angles: np.ndarray) -> np.ndarray:
    """Return projections of the particle, as large as the class averages."""
    volume = resample(particle(), PIXEL_SIZE * BOX / SIDE)
    images = project(volume, Rotation.from_euler("ZYZ", angles, degrees=True))
    padded = np.pad(images, ((0, 0), (SIDE, SIDE), (SIDE, SIDE)))
    start = SIDE + images.shape[-1] // 2 - SIDE // 2
    inside = slice(start, start + SIDE)
    return ndimage.gaussian_filter(padded[:, inside, inside], (0, 0.7, 0.7))


def correlation(average: np.ndarray, view: np.ndarray) -> float:
    """Return the largest correlation in the particle's circle, over turns in the plane and small shifts."""
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    circle = np.hypot(x, y) < 0.6 * DIAMETER / (PIXEL_SIZE * BOX / SIDE)

    def normalised(image: np.ndarray) -> np.ndarray:
        image = (image - image[circle].mean()) * circle
        return image / np.linalg.norm(image)

    spectrum = np.fft.rfft2(normalised(average))
    best = 0.0
    for psi in range(0, 360, 6):
        turned = normalised(ndimage.rotate(view, psi, reshape=False, order=1))
        shifted = np.fft.irfft2(spectrum * np.fft.rfft2(turned).conj(), s=(SIDE, SIDE))
        best = max(best, float(np.roll(shifted, (4, 4), (0, 1))[:9, :9].max()))
    return best


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([], ["--norm", "--bg_radius", "22"]),
        (["--no-normalise"], []),
        (["--scale", str(SIDE), "--no-normalise"], ["--scale", str(SIDE)]),
        (
            ["--scale", "46", "--background-radius", "16", "--invert-contrast"],
            ["--scale", "46", "--norm", "--bg_radius", "16", "--invert_contrast"],
        ),
    ],
    ids=["normalised", "plain", "scaled", "everything"],
)
def test_our_stacks_equal_those_of_relion(project_folder: Path, tmp_path: Path, ours: list[str], theirs: list[str]):
    folder = tmp_path / "project"
    shutil.copytree(project_folder / "micrographs", folder / "micrographs")
    shutil.copy(project_folder / "micrographs.star", folder)
    rng = np.random.default_rng(0)
    for path in sorted((folder / "micrographs").iterdir()):
        positions = rng.uniform((-20, -20), (920, 720), (60, 2)).round(3)  # also beyond all edges
        lines = "\n".join(f"{x} {y}" for x, y in positions)
        text = f"\ndata_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n{lines}\n"
        target = folder / "picks" / "micrographs" / f"{path.stem}_autopick.star"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    reference = extract_job(folder, "picks/", "Theirs/", "--extract_size", str(BOX), *theirs)
    where = ["--micrographs", "micrographs.star", "--output", "Ours", "--box-size", str(BOX)]
    deeppicker(folder, "extract", "picks/micrographs", *where, *ours, "--workers", "0")
    mine = table(folder / "Ours" / "particles.star", "particles")
    for label in (
        "rlnCoordinateX",
        "rlnCoordinateY",
        "rlnDefocusU",
        "rlnDefocusV",
        "rlnDefocusAngle",
        "rlnOpticsGroup",
    ):
        np.testing.assert_allclose(mine.numbers(label), reference.numbers(label), atol=1e-4)
    assert mine.text("rlnMicrographName") == reference.text("rlnMicrographName")
    both = [table(folder / name / "particles.star", "optics") for name in ("Ours", "Theirs")]
    for label in both[1].columns:
        if label != "rlnOpticsGroupName":
            np.testing.assert_allclose(both[0].numbers(label), both[1].numbers(label), rtol=1e-5)
    for path in (folder / "Theirs" / "micrographs").glob("*.mrcs"):
        expected, found = mrcfile.read(path), mrcfile.read(folder / "Ours" / "particles" / path.name)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_relion_classifies_our_stacks(project_folder: Path):
    words = ["--output", "Ours", "--box-size", str(BOX), "--scale", str(SIDE), "--invert-contrast", "--workers", "0"]
    deeppicker(project_folder, "extract", "External/job002", "--micrographs", "micrographs.star", *words)
    model = ["--K", "1", "--iter", "1", "--particle_diameter", "190", "--ctf", "--skip_align", "--pool", "10"]
    relion(project_folder, "relion_refine", "--i", "Ours/particles.star", "--o", "Ours/run", *model)
    data = table(project_folder / "Ours" / "run_it001_data.star", "particles")
    assert len(data) == sum(map(len, read_picks(project_folder / "External" / "job002")))
    average = mrcfile.read(project_folder / "Ours" / "run_it001_classes.mrcs").reshape(SIDE, SIDE)
    assert average[15:25, 15:25].mean() > average[:5].mean() + 0.1  # particles are bright


def test_relion_takes_the_particles_of_the_commands_in_the_readme(tmp_path: Path):
    readme = Path(__file__).parents[2] / "README.md"
    shutil.copytree(readme.parent / "sample", tmp_path / "sample")
    text = readme.read_text(encoding="utf-8").replace("\\\n", " ")
    for command in ("pick sample/micrographs", "extract picks"):
        line = next(line for line in text.splitlines() if line.startswith(f"deeppicker {command}"))
        deeppicker(tmp_path, *line.split()[1:], "--workers", "0")
    (tmp_path / "Import").mkdir()
    table_file = "particles/particles.star"
    relion(
        tmp_path, "relion_import", "--do_particles", "--i", table_file, "--odir", "Import/", "--ofile", "particles.star"
    )
    model = ["--K", "1", "--iter", "1", "--particle_diameter", "190", "--skip_align", "--pool", "10"]
    relion(tmp_path, "relion_refine", "--i", "Import/particles.star", "--o", "Import/run", *model)
    data = table(tmp_path / "Import" / "run_it001_data.star", "particles")
    assert len(data) == sum(map(len, read_picks(tmp_path / "picks"))) > 10


JOB = """
data_job

_rlnJobType                             {kind}
_rlnJobIsContinue                       0


data_joboptions_values

loop_
_rlnJobOptionVariable #1
_rlnJobOptionValue #2
{options}
"""
IMPORT = {"do_raw": "Yes", "fn_in_raw": "mics/*.mrc", "is_multiframe": "No", "angpix": "3", "optics_group_name": "one"}
IMPORT |= {"kV": "300", "Cs": "2.7", "Q0": "0.1", "beamtilt_x": "0", "beamtilt_y": "0", "do_queue": "No"}


def add_job(folder: Path, kind: int, options: dict[str, str]) -> None:
    """Schedule a job in the pipeline of RELION, as its window does."""
    lines = "\n".join(f"{label} {value}" for label, value in options.items())
    (folder / "job.star").write_text(JOB.format(kind=kind, options=lines))
    relion(folder, "relion_pipeliner", "--addJobFromStar", "job.star")


def run_jobs(folder: Path, *names: str) -> None:
    """Run jobs of the pipeline, or continue them. RELION takes no notice of a name that no space follows."""
    listed = " ".join(names) + (" " if len(names) > 1 else "")
    relion(folder, "relion_pipeliner", "--RunJobs", listed, "--schedule", "now", "--sec_wait_after", "0")


def test_the_pipeline_of_relion_runs_and_continues_us_as_a_job_and_extracts_from_the_node_it_learns_of(tmp_path: Path):
    for seed in range(2):
        scenes.write_mrc(tmp_path / "mics" / f"{seed}.mrc", scenes.scene(seed).micrograph.image)
    save_model(scenes.trained(), tmp_path / "model.safetensors")
    (tmp_path / "default_pipeline.star").write_text("\ndata_pipeline_general\n\n_rlnPipeLineJobCounter 1\n\n")
    script = tmp_path / "deeppicker-relion"
    source = os.pathsep.join(path for path in sys.path if path)
    script.write_text(f'#!/bin/sh\nexport PYTHONPATH="{source}"\nexec "{sys.executable}" -m deeppicker relion "$@"\n')
    script.chmod(0o755)
    add_job(tmp_path, 0, IMPORT)
    micrographs = "Import/job001/micrographs.star"
    given = {"fn_exe": str(script), "in_mic": micrographs, "nr_threads": "1", "do_queue": "No"}
    given |= {"param1_label": "diameter", "param1_value": "72", "param2_label": "model"}
    add_job(tmp_path, 99, given | {"param2_value": "model.safetensors"})
    for number in (2, 3):
        run_jobs(tmp_path, "Import/job001/", "External/job002/")
        assert (tmp_path / "External/job002/RELION_JOB_EXIT_SUCCESS").exists()
        assert len(read_picks(tmp_path / "External/job002")) == number
        scenes.write_mrc(tmp_path / "mics" / "2.mrc", scenes.scene(2).micrograph.image)  # arrives in between
    assert "(2 were done before)" in (tmp_path / "External/job002/run.out").read_text()
    nodes = table(tmp_path / "default_pipeline.star", "pipeline_nodes")
    node = "External/job002/coordinates/coords_suffix_autopick.star"
    assert nodes.text("rlnPipeLineNodeType")[nodes.text("rlnPipeLineNodeName").index(node)] == "2"
    extract = {"star_mics": micrographs, "coords_suffix": node, "extract_size": "36", "do_norm": "Yes"}
    extract |= {"bg_diameter": "-1", "do_invert": "Yes", "nr_mpi": "1", "do_queue": "No", "do_reextract": "No"}
    add_job(tmp_path, 5, extract)
    run_jobs(tmp_path, "Extract/job003/")
    particles = table(tmp_path / "Extract/job003/particles.star", "particles")
    picks = read_picks(tmp_path / "External/job002")
    np.testing.assert_allclose(positions_of(particles), np.concatenate([p.positions for p in picks]), atol=1e-4)
    assert len(particles) > 40
