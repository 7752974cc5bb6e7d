"""What other programs make of our files, as far as these are installed: `pip install '.[clients]'`.

They run in a process of their own. The environment variable DEEPPICKER_CLIENTS may name a folder of packages
(``site-packages``) that holds them, or the Python of another environment: napari-boxmanager needs an older NumPy than
ours (``pip install napari-boxmanager napari==0.4.18 PyQt5 'pydantic<2' 'setuptools<80'``).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from deeppicker.core import Picks
from deeppicker.formats import read_picks, write_picks
from deeppicker.formats.coordinates.cryosparc import MicrographSize

HEIGHT, WIDTH = 60, 90
POSITIONS = np.array([[20.4, 15.6], [61.5, 40.25], [33.0, 47.0]])
SCORES = np.array([0.9, 0.5, 0.25])


def asked(package: str, script: str, folder: Path) -> object:
    """Run a script in a folder with a package, and return what it prints as JSON; skip where that is missing."""
    clients = os.environ.get("DEEPPICKER_CLIENTS", "")
    python = clients if Path(clients).is_file() else sys.executable
    start = f"import json, sys\nsys.path.append({clients!r})\n"
    if subprocess.run([python, "-c", f"{start}import {package}"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs {package} (pip install '.[clients]')")
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [python, "-c", start + script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A micrograph whose pixels tell their places, and picks in it in several formats."""
    y, x = np.indices((HEIGHT, WIDTH))
    with mrcfile.new(tmp_path / "m.mrc", data=(1000 * y + x).astype(np.float32)) as file:
        file.voxel_size = 1.5
    picks = [Picks("m.mrc", POSITIONS, SCORES)]
    write_picks(tmp_path / "picks.star", picks, pixel_size=1.5)
    write_picks(tmp_path / "picks.txt", picks)
    write_picks(tmp_path / "m.box", picks, box_size=10)
    write_picks(tmp_path / "m.cbox", picks, box_size=10)
    write_picks(tmp_path / "folder", picks)
    write_picks(tmp_path / "picks.cs", picks, sizes={"m.mrc": MicrographSize(HEIGHT, WIDTH, 1.5, 7)})
    return tmp_path


def test_starfile_reads_particles_and_optics(folder: Path):
    script = """
import starfile
tables = starfile.read("picks.star", always_dict=True)
particles, optics = tables["particles"], tables["optics"]
print(json.dumps([
    particles[["rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit"]].values.tolist(),
    particles["rlnMicrographName"].tolist(),
    optics["rlnMicrographPixelSize"].tolist() if hasattr(optics, "values") else [optics["rlnMicrographPixelSize"]],
]))
"""
    rows, names, sizes = asked("starfile", script, folder)
    np.testing.assert_allclose(rows, np.column_stack([POSITIONS, SCORES]))
    assert (names, sizes) == (["m.mrc"] * 3, [1.5])


def test_we_read_what_starfile_writes(folder: Path):
    script = """
import starfile
tables = starfile.read("picks.star", always_dict=True)
starfile.write(tables, "again.star")
print(json.dumps(None))
"""
    asked("starfile", script, folder)
    (again,) = read_picks(folder / "again.star")
    np.testing.assert_allclose(again.positions, POSITIONS)


def test_cryosparc_tools_reads_our_locations_and_we_read_what_it_writes(folder: Path):
    script = """
from cryosparc.dataset import Dataset
found = Dataset.load("picks.cs")
found.save("again.cs")
print(json.dumps([
    [[float(x), float(y)] for x, y in zip(found["location/center_x_frac"], found["location/center_y_frac"])],
    [int(uid) for uid in found["location/micrograph_uid"]],
    [list(map(int, shape)) for shape in found["location/micrograph_shape"]],
    [str(path) for path in found["location/micrograph_path"]],
]))
"""
    fractions, uids, shapes, names = asked("cryosparc.dataset", script, folder)
    np.testing.assert_allclose(np.array(fractions) * [WIDTH, HEIGHT], POSITIONS, atol=1e-3)
    assert (uids, shapes, names) == ([7] * 3, [[HEIGHT, WIDTH]] * 3, ["m.mrc"] * 3)
    (again,) = read_picks(folder / "again.cs")
    np.testing.assert_allclose(again.positions, POSITIONS, atol=1e-3)


def test_pyem_counts_y_of_a_cs_file_from_the_other_end(folder: Path):
    """A recorded fact: cryosparc_2_cs_particle_locations of pyem takes (1 - fraction) * height by default."""
    records = np.load(folder / "picks.cs")
    pyem = (1 - records["location/center_y_frac"]) * records["location/micrograph_shape"][:, 0]
    np.testing.assert_allclose(pyem, HEIGHT - POSITIONS[:, 1], atol=1e-3)
    (ours,) = read_picks(folder / "picks.cs")
    np.testing.assert_allclose(ours.positions[:, 1], POSITIONS[:, 1], atol=1e-3)


def test_topaz_cuts_the_particles_that_we_picked(folder: Path):
    script = """
from topaz.utils.picks import create_particle_stack
create_particle_stack("picks.txt", "stack.mrcs", float("-inf"), 8, -1, ".", ".mrc", None)
print(json.dumps(None))
"""
    asked("topaz.utils.picks", script, folder)
    stack = np.fromfile(folder / "stack.mrcs", dtype=np.float32, offset=1024).reshape(3, 8, 8)
    image = mrcfile.read(folder / "m.mrc")
    for (x, y), cut in zip(np.floor(POSITIONS + 0.5).astype(int), stack, strict=True):
        window = image[y - 4 : y + 4, x - 4 : x + 4]
        np.testing.assert_allclose(cut, (window - window.mean()) / window.std(), atol=1e-3)


def test_napari_boxmanager_reads_the_centres_of_our_boxes(folder: Path):
    script = """
import numpy as np
from box_manager.io import box, cbox, star
read = {box: "m.box", cbox: "m.cbox", star: "folder/m_autopick.star"}
print(json.dumps([np.asarray(reader.to_napari([path])[0][0], dtype=float).tolist() for reader, path in read.items()]))
"""
    points = asked("box_manager.io", script, folder)
    for (slices, y, x), whole in zip((np.transpose(found) for found in points), (True, False, False), strict=True):
        positions = np.floor(POSITIONS + 0.5) if whole else POSITIONS
        np.testing.assert_allclose(np.column_stack([x, y]), positions)
        assert not np.any(slices)
