"""Stacks of particle images: arithmetic, table, resuming. That they equal RELION's is in test_relion.py."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

import scenes
from deeppicker.cli.main import main
from deeppicker.config import ExtractConfig, ImageConfig
from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import InputError
from deeppicker.formats import read_micrographs, read_picks, write_picks
from deeppicker.formats.images.stack import read_mark, write_stack
from deeppicker.formats.relion.particles import Acquisition, Stack, write_particles
from deeppicker.formats.star_table import read_tables
from deeppicker.particles.extract import ExtractItem, ExtractJob, extract_particles, touching, windows

SHAPE = (60, 80)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 8, SHAPE).astype(np.float32)


def images_of(positions: list[list[float]], config: ExtractConfig) -> np.ndarray:
    return np.concatenate(list(extract_particles(image(), np.array(positions, dtype=float), config)))


def test_a_window_is_centred_on_the_pixel_of_its_position_without_decimals():
    plain = ExtractConfig(box_size=8, image=ImageConfig(normalise=False))
    (first,) = images_of([[30.9, 20.2]], plain)
    np.testing.assert_array_equal(first, image()[16:24, 26:34])
    assert first[4, 4] == image()[20, 30]


def test_beyond_the_edge_the_pixels_of_the_edge_are_repeated():
    (corner,) = windows(image(), np.array([[0.0, 59.0]]), 8)
    padded = np.pad(image(), 8, mode="edge")
    np.testing.assert_array_equal(corner, padded[59 + 8 - 4 : 59 + 8 + 4, 8 - 4 : 8 + 4])


def test_which_windows_touch_the_image():
    positions = np.array([[-4.0, 5.0], [-3.0, 5.0], [84.0, 5.0], [83.0, 5.0], [5.0, -4.0], [5.0, 64.0], [5.0, 63.0]])
    np.testing.assert_array_equal(touching(positions, SHAPE, 8), [False, True, False, True, False, False, True])


def test_the_background_has_mean_0_deviation_1_and_no_slope():
    config = ExtractConfig(box_size=32, image=ImageConfig(background_radius=10))
    tilted = image() + np.arange(80, dtype=np.float32) * 3
    (one,) = np.concatenate(list(extract_particles(tilted, np.array([[40.0, 30.0]]), config)))
    y, x = np.indices(one.shape) - 16
    background = x * x + y * y > 100
    assert abs(one[background].mean()) < 1e-6
    assert one[background].std() == pytest.approx(1, abs=1e-6)
    design = np.stack([x[background], y[background], np.ones(background.sum())], axis=1)
    slopes = np.linalg.lstsq(design, one[background].astype(float), rcond=None)[0]
    np.testing.assert_allclose(slopes, 0, atol=1e-7)


def test_inverting_changes_the_sign_only():
    config = ExtractConfig(box_size=16)
    inverted = replace(config, image=ImageConfig(invert_contrast=True))
    np.testing.assert_array_equal(images_of([[40, 30]], config), -images_of([[40, 30]], inverted))


def test_scaling_keeps_low_frequencies_exactly_and_the_mean():
    y, x = np.indices(SHAPE)
    wave = (np.cos(2 * np.pi * x / 16) + np.sin(2 * np.pi * y / 8) + 5).astype(np.float32)
    config = ExtractConfig(box_size=32, image=ImageConfig(scale=16, normalise=False))
    (small,) = np.concatenate(list(extract_particles(wave, np.array([[40.0, 30.0]]), config)))
    expected = wave[14:46:2, 24:56:2]
    np.testing.assert_allclose(small, expected, atol=1e-5)


def test_a_window_of_one_value_stays_finite():
    flat = np.full(SHAPE, 7, dtype=np.float32)
    (one,) = np.concatenate(list(extract_particles(flat, np.array([[40.0, 30.0]]), ExtractConfig(box_size=16))))
    np.testing.assert_allclose(one, 0, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"box_size": 31}, "--box-size 31 is odd"),
        ({"box_size": 32, "scale": 15}, "--scale 15 is odd"),
        ({"box_size": 32, "scale": 64}, "--scale 64 is out of range; choose 2 to 32"),
        ({"box_size": 32, "scale": 16, "background_radius": 9}, "--background-radius 9 is out of range; choose 1 to 8"),
    ],
)
def test_sizes_that_cannot_be_are_refused(values: dict[str, int], message: str):
    box_size = values["box_size"]
    image = ImageConfig(**{name: value for name, value in values.items() if name != "box_size"})
    with pytest.raises(InputError, match=message):
        ExtractConfig(box_size=box_size, image=image)


def test_a_stack_is_a_valid_mrc_file_with_its_statistics_and_its_mark(tmp_path: Path):
    data = np.random.default_rng(0).normal(1, 2, (5, 6, 6)).astype(np.float32)
    path = tmp_path / "a.mrcs"
    assert write_stack(path, iter([data[:2], data[2:]]), 2.5, "made so") == 5
    assert read_mark(path) == "made so"
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        np.testing.assert_array_equal(file.data, data)
        assert file.is_image_stack()
        assert file.voxel_size.x == pytest.approx(2.5)
        assert file.header.dmean == pytest.approx(data.mean(), rel=1e-5)
        assert file.header.rms == pytest.approx(data.std(), rel=1e-5)
    path.write_bytes(path.read_bytes()[:-1])
    assert read_mark(path) is None
    assert read_mark(tmp_path / "none.mrcs") is None


def test_a_stack_whose_images_cannot_all_be_made_is_not_there(tmp_path: Path):
    def broken():
        yield np.zeros((1, 4, 4), np.float32)
        raise InputError("no more")

    with pytest.raises(InputError):
        write_stack(tmp_path / "a.mrcs", broken(), 1.0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with micrographs, their STAR file with CTF parameters, and coordinates; the current one."""
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        scenes.write_mrc(tmp_path / "mics" / f"{index}.mrc", image(index))
    rows = "\n".join(f"mics/{i}.mrc {1 + i // 2} {10000 + i} 9000 30" for i in range(3))
    (tmp_path / "mics.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroupName\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n_rlnVoltage\n"
        "_rlnSphericalAberration\n_rlnAmplitudeContrast\nfirst 1 3.0 300 2.7 0.1\nsecond 2 3.0 200 1.4 0.1\n\n"
        "data_micrographs\n\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\n_rlnDefocusU\n_rlnDefocusV\n"
        f"_rlnDefocusAngle\n{rows}\n"
    )
    positions = np.random.default_rng(5).uniform((5, 5), (75, 55), (3, 7, 2))
    picks = [Picks(f"mics/{i}.mrc", positions[i], np.linspace(0.9, 0.5, 7)) for i in range(3)]
    write_picks(tmp_path / "picks", picks)
    return tmp_path


def command(*words: str) -> int:
    start = ["extract", "picks", "--micrographs", "mics.star", "--output", "out", "--box-size", "16", "--scale", "12"]
    return main([*start, "--workers", "0", "--quiet", *words])


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "out" / "particles").iterdir()}


def test_the_table_takes_over_optics_and_ctf_and_counts_images_from_1(project: Path):
    assert command() == 0
    tables = {table.name: table for table in read_tables(project / "out" / "particles.star")}
    optics, particles = tables["optics"], tables["particles"]
    assert optics.text("rlnOpticsGroupName") == ["first", "second"]
    assert optics.text("rlnVoltage") == ["300", "200"]
    np.testing.assert_allclose(optics.numbers("rlnImagePixelSize"), 4)
    np.testing.assert_allclose(optics.numbers("rlnMicrographOriginalPixelSize"), 3)
    assert optics.text("rlnImageSize") == ["12", "12"]
    assert "rlnMicrographPixelSize" not in optics
    assert particles.text("rlnImageName")[6:8] == ["000007@out/particles/0.mrcs", "000001@out/particles/1.mrcs"]
    assert particles.text("rlnOpticsGroup") == ["1"] * 14 + ["2"] * 7
    assert particles.text("rlnDefocusU")[::7] == ["10000", "10001", "10002"]
    assert particles.text("rlnCtfScalefactor") == ["1.0"] * 21
    again = read_picks(project / "out" / "particles.star")
    for before, after in zip(read_picks(project / "picks"), again, strict=True):
        np.testing.assert_array_equal(before.positions, after.positions)
        np.testing.assert_array_equal(before.scores, after.scores)
    assert read_micrographs(project / "out" / "particles.star")[0].pixel_size == 3.0
    for index, picks in enumerate(again):
        stack = mrcfile.read(project / "out" / "particles" / f"{index}.mrcs")
        config = ExtractConfig(box_size=16, image=ImageConfig(scale=12))
        np.testing.assert_array_equal(
            stack, np.concatenate(list(extract_particles(image(index), picks.positions, config)))
        )


def test_a_second_run_makes_only_what_is_missing_damaged_or_different(project: Path):
    assert command() == 0
    first = stamps(project)
    assert command() == 0
    assert stamps(project) == first
    damaged = project / "out" / "particles" / "1.mrcs"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-4])
    (project / "out" / "particles" / "2.mrcs").unlink()
    assert command() == 0
    assert damaged.read_bytes() == content
    assert {name for name, stamp in stamps(project).items() if stamp != first[name]} == {"1.mrcs", "2.mrcs"}
    second = stamps(project)
    star = project / "picks" / "0_autopick.star"
    write_picks(project / "fewer.star", [read_picks(star)[0].where(np.arange(7) < 4)])
    picks = [replace(item, micrograph=f"mics/{item.key}.mrc") for item in read_picks(project / "picks")]
    write_picks(project / "picks", [picks[0].where(np.arange(7) < 4), *picks[1:]])
    assert command() == 0
    assert {name for name, stamp in stamps(project).items() if stamp != second[name]} == {"0.mrcs"}
    third = stamps(project)
    scenes.write_mrc(project / "mics" / "1.mrc", image(9))
    left = [
        project / "out" / part / ".deeppicker-0123.tmp" for part in ("", "particles")
    ]  # by a command that was killed
    for path in left:
        path.touch()
    assert command() == 0
    assert not any(path.exists() for path in left)
    assert {name for name, stamp in stamps(project).items() if stamp != third[name]} == {"1.mrcs"}
    assert set(stamps(project)) == set(first)
    assert command("--invert-contrast") == 0
    assert all(stamp != second[name] for name, stamp in stamps(project).items())


def test_other_workers_write_the_same_bytes(project: Path):
    assert command() == 0
    assert command("--output", "other", "--workers", "2") == 0
    for name in stamps(project):
        one, other = ((project / folder / "particles" / name).read_bytes() for folder in ("out", "other"))
        assert one == other


def test_a_bad_micrograph_costs_only_its_own_particles(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / "mics" / "1.mrc").write_bytes(b"nothing")
    assert command() == 1
    assert "mics/1.mrc" in capsys.readouterr().err
    assert [picks.micrograph for picks in read_picks(project / "out" / "particles.star")] == [
        "mics/0.mrc",
        "mics/2.mrc",
    ]


def test_windows_without_a_pixel_of_the_micrograph_are_refused(project: Path, capsys: pytest.CaptureFixture[str]):
    write_picks(project / "picks", [Picks.unscored("mics/0.mrc", np.array([[40.0, 30.0], [500.0, 30.0]]))])
    assert command() == 2
    shown = capsys.readouterr().err
    assert "80×60 pixels, and of 2 windows 1 lie outside of it, such as that at (500, 30)" in shown


def test_micrographs_that_are_not_there_are_told(project: Path, capsys: pytest.CaptureFixture[str]):
    write_picks(project / "picks.csv", [Picks.unscored("a", np.ones((2, 2)))])
    assert main(["extract", "picks.csv", "--output", "out", "--box-size", "16"]) == 2
    assert "set --micrographs" in capsys.readouterr().err
    assert main(["extract", "picks.csv", "--micrographs", "mics", "--output", "out", "--box-size", "16"]) == 2
    assert "1 of 1 micrographs with particles are not in mics, such as a" in capsys.readouterr().err


def test_coordinates_alone_tell_where_the_micrographs_are(project: Path):
    taken = ["--voltage", "200", "--cs", "1.4", "--amplitude-contrast", "0.07"]
    assert main(["extract", "picks", "--output", "out", "--box-size", "16", "--workers", "0", "--quiet", *taken]) == 0
    optics = read_tables(project / "out" / "particles.star")[0]
    assert optics.numbers("rlnImagePixelSize").tolist() == [3.0]
    assert optics.text("rlnOpticsGroupName") == ["opticsGroup1"]
    for label, value in (("rlnVoltage", 200), ("rlnSphericalAberration", 1.4), ("rlnAmplitudeContrast", 0.07)):
        assert optics.numbers(label).tolist() == [value]


def test_what_relion_needs_of_the_microscope_is_asked_for_before_anything_is_cut(
    project: Path, capsys: pytest.CaptureFixture[str]
):
    words = [
        "extract",
        "picks",
        "--output",
        "out",
        "--box-size",
        "16",
        "--voltage",
        "300",
        "--amplitude-contrast",
        ".1",
    ]
    assert main(words) == 2
    assert "how mics/0.mrc was taken is not known, and RELION and cryoSPARC need it; set --cs (mm), or" in (
        capsys.readouterr().err
    )
    assert not list(project.glob("out/particles/*"))


def test_a_star_file_of_the_micrographs_has_the_last_word_on_the_microscope(project: Path):
    assert command("--voltage", "100", "--cs", "1", "--amplitude-contrast", "0.2") == 0
    optics = read_tables(project / "out" / "particles.star")[0]
    assert optics.text("rlnVoltage") == ["300", "200"]


def test_optics_groups_of_different_pixel_sizes_are_kept_apart(tmp_path: Path):
    picks = Picks.unscored("a.mrc", np.ones((1, 2)))
    same = Acquisition({"rlnOpticsGroupName": "one", "rlnOpticsGroup": "1"})
    stacks = [Stack(picks, "a.mrcs", 1.0, same), Stack(picks, "b.mrcs", 2.0, same), Stack(picks, "c.mrcs", 1.0)]
    assert write_particles(tmp_path / "p.star", stacks, 16, 8) == 3
    optics, particles = read_tables(tmp_path / "p.star")
    assert len(set(optics.text("rlnOpticsGroup"))) == 3
    assert set(particles.text("rlnOpticsGroup")) == set(optics.text("rlnOpticsGroup"))
    assert optics.numbers("rlnImagePixelSize").tolist() == [2.0, 4.0, 2.0]


def test_memory_does_not_grow_with_the_number_of_particles(tmp_path: Path):
    """The images of all would be 131 MB in 64 bits; those of a block are 8 MB."""
    positions = np.random.default_rng(0).uniform(0, (79, 59), (4000, 2))
    path = scenes.write_mrc(tmp_path / "a.mrc", image())
    job = ExtractJob(tmp_path, ExtractConfig(box_size=64))

    def peaks(number: int, micrographs: int) -> tuple[int, int]:
        item = ExtractItem(MicrographEntry("a.mrc", path), Picks.unscored("a.mrc", positions[:number]))
        stacks = [Stack(replace(item.picks, micrograph=f"{i}.mrc"), "a.mrcs", 1.0) for i in range(micrographs)]
        tracemalloc.start()
        assert job(item) == number
        first = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert write_particles(tmp_path / "p.star", stacks, 64, 64) == number * micrographs
        second = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return first, second

    few, many = peaks(1000, 2), peaks(4000, 1)
    assert many[0] < 1.2 * few[0] < 100e6
    assert peaks(500, 8)[1] < 1.2 * peaks(500, 2)[1]
