"""Images of every kind: what is stored is what is read, and what is no micrograph is refused in one line."""

from __future__ import annotations

import bz2
import gzip
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from mrcfile.dtypes import HEADER_DTYPE
from PIL import Image

from deeppicker.errors import DeepPickerError, FormatError, InputError
from deeppicker.formats import read_header, read_micrograph

_EXAMPLES = settings(derandomize=True, deadline=None, max_examples=100)
_MODES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}


def _mrc(path: Path, image: np.ndarray, voxel_size: float | tuple[float, float, float] = 1.25) -> Path:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(image)
        mrc.voxel_size = voxel_size
    return path


def _patched(path: Path, offset: int, content: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("mode", _MODES)
def test_every_real_mrc_mode_reads_back_as_written(mode: int, image: np.ndarray, tmp_path: Path) -> None:
    path = _mrc(tmp_path / "m.mrc", image.astype(_MODES[mode]))
    found = read_micrograph(path)
    np.testing.assert_array_equal(found.image, image)
    assert (found.name, found.pixel_size) == (str(path), 1.25)
    assert found.image.dtype == np.float32
    assert found.image.flags.c_contiguous
    assert found.image.flags.writeable
    assert read_header(path) == (7, 12, 1.25)


@pytest.mark.parametrize("suffix", [".mrc", ".mrc.gz", ".tif", ".png"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_contrast_is_inverted_where_it_is_read(suffix: str, dtype: type, image: np.ndarray, tmp_path: Path) -> None:
    path, stored = tmp_path / f"m{suffix}", image.astype(np.uint8 if suffix == ".png" else dtype)
    if suffix == ".tif":
        tifffile.imwrite(path, stored)
    elif suffix == ".png":
        Image.fromarray(stored).save(path)
    else:
        plain = _mrc(tmp_path / "m.mrc", stored.astype(np.int8) if dtype == np.uint8 else stored)
        path.write_bytes(gzip.compress(plain.read_bytes()) if suffix == ".mrc.gz" else plain.read_bytes())
    found = read_micrograph(path, pixel_size=1.25, invert=True)
    np.testing.assert_array_equal(found.image, -read_micrograph(path, pixel_size=1.25).image)


@pytest.mark.parametrize("mode", _MODES)
def test_big_endian_files_are_read(mode: int, image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "m.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(image.astype(_MODES[mode]))
        mrc.voxel_size = 1.25
    raw = path.read_bytes()
    header = np.frombuffer(raw[:1024], HEADER_DTYPE).astype(HEADER_DTYPE.newbyteorder(">"))
    header["machst"] = (0x11, 0x11, 0, 0)
    pixels = np.frombuffer(raw[1024:], _MODES[mode]).astype(np.dtype(_MODES[mode]).newbyteorder(">"))
    path.write_bytes(header.tobytes() + pixels.tobytes())
    np.testing.assert_array_equal(read_micrograph(path).image, image)


def test_an_extended_header_is_skipped(image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "m.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(image)
        mrc.voxel_size = 2.0
        mrc.set_extended_header(np.frombuffer(b"x" * 333, dtype="V1"))
    np.testing.assert_array_equal(read_micrograph(path).image, image)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed_files_are_read(
    suffix: str, compress: Callable[[bytes], bytes], image: np.ndarray, tmp_path: Path
) -> None:
    plain = _mrc(tmp_path / "m.mrc", image)
    path = tmp_path / f"m.mrc{suffix}"
    path.write_bytes(compress(plain.read_bytes()))
    found = read_micrograph(path)
    np.testing.assert_array_equal(found.image, image)
    assert found.key == "m"
    assert read_header(path) == (7, 12, 1.25)


@pytest.mark.parametrize("bytes_at_a_time", [1, 50, 100, 1 << 22])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32, ">f4", ">i2"])
@pytest.mark.parametrize("compress", [None, gzip.compress])
def test_any_type_of_pixel_is_read_in_strips_of_any_size(
    bytes_at_a_time: int,
    dtype: object,
    compress: Callable[[bytes], bytes] | None,
    image: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = (20 * image).astype(dtype)
    path = _mrc(tmp_path / "m.mrc", stored)
    if compress:
        path = path.with_name("m.mrc.gz")
        path.write_bytes(compress((tmp_path / "m.mrc").read_bytes()))
    monkeypatch.setattr("deeppicker.formats.images.mrc._STRIP_BYTES", bytes_at_a_time)
    found = read_micrograph(path).image
    np.testing.assert_array_equal(found, stored.astype(np.float32))
    assert found.flags.writeable
    assert found.flags.c_contiguous


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_pixels_are_counted_wherever_they_are(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeppicker.formats.images.read._STRIP", 3)
    image = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)
    image[1, 2] = image[9, 7] = value
    tifffile.imwrite(tmp_path / "m.tif", image)
    with pytest.raises(FormatError, match=r"m\.tif has 2 of 80 NaN or infinite pixels"):
        read_micrograph(tmp_path / "m.tif", pixel_size=1.0)


@pytest.mark.parametrize(("flags", "unsigned"), [(0, True), (1, False)])
def test_bytes_are_signed_unless_imod_says_otherwise(
    flags: int, unsigned: bool, image: np.ndarray, tmp_path: Path
) -> None:
    stored = (image * 2).astype(np.uint8).view(np.int8)
    path = _mrc(tmp_path / "m.mrc", stored)
    np.testing.assert_array_equal(read_micrograph(path).image, stored)
    _patched(path, 152, np.array([1146047817, flags], dtype="<i4").tobytes())
    np.testing.assert_array_equal(read_micrograph(path).image, stored.view(np.uint8) if unsigned else stored)


def test_a_stack_of_one_section_is_an_image(image: np.ndarray, tmp_path: Path) -> None:
    path = _mrc(tmp_path / "m.mrcs", image[None])
    np.testing.assert_array_equal(read_micrograph(path).image, image)


@pytest.mark.parametrize(
    ("offset", "content", "warned"),
    [
        (208, b"\0\0\0\0", "no 'MAP'"),
        (212, b"\0\0\0\0", "unknown machine stamp"),
        (212, b"\x11\x11\0\0", "other byte order"),
        (208, bytes(8), "no 'MAP' at byte 208 and an unknown machine stamp"),
        (8, bytes(4), "no sections by its header"),
        (92, b"\0\4\0\0", "no room for an extended header of 1,024 bytes"),
        (92, b"\xff\xff\xff\xff", "no room for an extended header of -1 bytes"),
    ],
)
def test_a_flaw_that_leaves_no_doubt_is_a_warning(
    offset: int, content: bytes, warned: str, image: np.ndarray, tmp_path: Path
) -> None:
    path = _patched(_mrc(tmp_path / "m.mrc", image), offset, content)
    with pytest.warns(UserWarning, match=warned):
        np.testing.assert_array_equal(read_micrograph(path).image, image)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_compressed_big_endian_file_with_a_bad_header_warns_and_is_read(
    suffix: str, compress: Callable[[bytes], bytes], image: np.ndarray, tmp_path: Path
) -> None:
    header = np.frombuffer(_mrc(tmp_path / "m.mrc", image).read_bytes()[:1024], HEADER_DTYPE)
    swapped = header.astype(HEADER_DTYPE.newbyteorder(">")).tobytes()
    path = tmp_path / f"m.mrc{suffix}"
    path.write_bytes(compress(swapped[:208] + bytes(8) + swapped[216:] + image.astype(">f4").tobytes()))
    with pytest.warns(UserWarning, match="no 'MAP' at byte 208 and an unknown machine stamp and a machine stamp"):
        np.testing.assert_array_equal(read_micrograph(path).image, image)


def test_a_file_that_is_not_compressed_in_spite_of_its_name_is_read(image: np.ndarray, tmp_path: Path) -> None:
    plain = _mrc(tmp_path / "m.mrc", image)
    np.testing.assert_array_equal(read_micrograph(plain.rename(tmp_path / "m.mrc.gz")).image, image)


def test_a_compressed_stack_of_one_section_is_an_image(image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "m.mrcs.bz2"
    path.write_bytes(bz2.compress(_mrc(tmp_path / "m.mrcs", image[None]).read_bytes()))
    np.testing.assert_array_equal(read_micrograph(path).image, image)


def test_extra_bytes_after_the_image_are_a_warning(image: np.ndarray, tmp_path: Path) -> None:
    path = _mrc(tmp_path / "m.mrc", image)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.warns(UserWarning, match=r"m\.mrc has extra bytes"):
        np.testing.assert_array_equal(read_micrograph(path).image, image)


@pytest.mark.parametrize("voxel_size", [0.0, -1.0, float("nan"), float("inf"), (1.0, 1.05, 1.0), (1.0, 0.0, 1.0)])
def test_a_bad_pixel_size_asks_for_the_option(
    voxel_size: float | tuple[float, float, float], image: np.ndarray, tmp_path: Path
) -> None:
    path = _mrc(tmp_path / "stack_012.mrc", image, voxel_size)
    with pytest.raises(InputError, match=r"stack_012\.mrc has pixel size .* Å.*; set --pixel-size"):
        read_micrograph(path)
    assert read_micrograph(path, pixel_size=1.1).pixel_size == 1.1
    assert read_header(path).pixel_size is None


def test_a_header_without_intervals_has_pixel_size_zero(image: np.ndarray, tmp_path: Path) -> None:
    path = _patched(_mrc(tmp_path / "m.mrc", image), 28, bytes(12))
    with pytest.raises(InputError, match=r"m\.mrc has pixel size 0\.0 Å; set --pixel-size"):
        read_micrograph(path)


def test_nearly_square_pixels_have_the_size_along_x(image: np.ndarray, tmp_path: Path) -> None:
    assert read_micrograph(_mrc(tmp_path / "m.mrc", image, (1.06, 1.065, 1.0))).pixel_size == 1.06


@pytest.mark.parametrize("pixel_size", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_pixel_size_option_is_refused(pixel_size: float, image: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--pixel-size"):
        read_micrograph(_mrc(tmp_path / "m.mrc", image), pixel_size=pixel_size)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_tiff_reads_back_as_written(dtype: str, compression: str | None, image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, image.astype(dtype), compression=compression)
    found = read_micrograph(path, pixel_size=1.5, name="other")
    np.testing.assert_array_equal(found.image, image)
    assert (found.name, found.pixel_size) == ("other", 1.5)
    assert read_header(path) == (7, 12, None)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_png_reads_back_as_written(dtype: str, image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray((image * 2).astype(dtype)).save(path)
    np.testing.assert_array_equal(read_micrograph(path, pixel_size=1.5).image, image * 2)
    assert read_header(path) == (7, 12, None)


def test_colours_become_luminance(image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(np.repeat(image.astype(np.uint8)[..., None], 3, axis=2)).save(path)
    np.testing.assert_array_equal(read_micrograph(path, pixel_size=1.5).image, image)


def test_jpeg_keeps_rows_and_columns(tmp_path: Path) -> None:
    image = np.zeros((32, 48), np.uint8)
    image[:8] = 200
    path = tmp_path / "m.jpg"
    Image.fromarray(image).save(path)
    found = read_micrograph(path, pixel_size=1.5).image
    assert found.shape == (32, 48)
    assert found[:8].mean() > 190
    assert found[8:].mean() < 10


@pytest.mark.parametrize("name", ["m.tif", "m.png", "m.jpg"])
def test_images_without_a_pixel_size_ask_for_the_option(name: str, image: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name} carries no reliable pixel size; set --pixel-size"):
        read_micrograph(tmp_path / name)


def _bad(name: str, path: Path, image: np.ndarray) -> None:
    """Write a file that is no micrograph."""
    header = _mrc(path.with_name("good.mrc"), image).read_bytes()
    whole = np.zeros((2, 7, 12), np.float32) + image
    holes = image.copy()
    holes[2, 3] = np.nan
    match name:
        case "empty":
            path.write_bytes(b"")
        case "short":
            path.write_bytes(header[:500])
        case "truncated":
            path.write_bytes(header[:-1])
        case "text":
            path.write_text("this is not an image, but a longer text about one\n" * 99)
        case "huge":
            path.write_bytes(np.array([200000, 200000], "<i4").tobytes() + header[8:])
        case "negative" | "mode 9":
            path.write_bytes(header)
            offset = {"negative": 0, "mode 9": 12}[name]
            _patched(path, offset, np.array([9 if name == "mode 9" else -5], "<i4").tobytes())
        case "negative extended header":
            path.write_bytes(header + b"more")
            _patched(path, 92, np.array([-5], "<i4").tobytes())
        case "4-bit" | "RGB" | "complex integers":
            path.write_bytes(header)
            _patched(path, 12, np.array([{"4-bit": 101, "RGB": 16}.get(name, 3)], "<i4").tobytes())
        case "complex":
            _mrc(path, image.astype(np.complex64))
        case "movie":
            _mrc(path, whole)
        case "NaN":
            with pytest.warns(RuntimeWarning):
                _mrc(path, holes)
        case "constant":
            _mrc(path, np.full((7, 12), 3, np.float32))
        case "broken gzip":
            path.write_bytes(gzip.compress(header)[:-40])
        case "broken bzip2":
            path.write_bytes(bz2.compress(header)[:-40])


_BAD_MRC = {
    "empty": "is empty",
    "short": "only 500 bytes",
    "truncated": "is cut short",
    "text": "is not an MRC file",
    "huge": "is cut short",
    "negative": "is not an MRC file",
    "mode 9": "is not an MRC file",
    "negative extended header": "extended header of -5 bytes",
    "4-bit": "newstack -mode 1",
    "RGB": "colours",
    "complex integers": "Fourier",
    "complex": "Fourier",
    "movie": "2 sections.*motion-corrected",
    "NaN": "1 of 84",
    "constant": "every pixel is 3",
    "broken gzip": "is damaged",
    "broken bzip2": "is damaged",
}


@pytest.mark.parametrize("name", _BAD_MRC)
def test_a_bad_mrc_file_is_refused_in_one_line_that_names_it(name: str, image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "bad.mrc"
    _bad(name, path, image)
    with pytest.raises(FormatError, match=rf"bad\.mrc .*{_BAD_MRC[name]}") as caught:
        read_micrograph(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape", "match"),
    [
        ("m.tif", (3, 7, 12), "3 pages.*motion-correct it first"),
        ("m.tiff", (7, 12, 3), "channels"),
        ("m.eer", (7, 12), "motion-correct"),
    ],
)
def test_a_tiff_movie_or_colour_image_is_refused(name: str, shape: tuple[int, ...], match: str, tmp_path: Path) -> None:
    photometric = "rgb" if shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / name, np.ones(shape, np.uint8), photometric=photometric)
    with pytest.raises(FormatError, match=match):
        read_micrograph(tmp_path / name, pixel_size=1.0)


def test_a_movie_that_is_cut_short_is_not_taken_for_its_first_frame(image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.stack([image] * 3), photometric="minisblack", metadata=None)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as movie:
        second = movie.pages[1].offset
    path.write_bytes(content[:second])
    for read in (lambda: read_micrograph(path, pixel_size=1.0), lambda: read_header(path)):
        with pytest.raises(FormatError, match=r"m\.tif is cut short: its second page is missing"):
            read()


@pytest.mark.parametrize("name", ["m.mrc", "m.tif", "m.png", "m.jpg", "m.mrc.gz"])
def test_a_missing_file_or_a_folder_is_an_input_error(name: str, tmp_path: Path) -> None:
    for read in (read_micrograph, read_header):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=name):
        read_micrograph(tmp_path / name)


def test_an_unknown_extension_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"m\.dm4 .*\.mrc, .*\.tif"):
        read_micrograph(tmp_path / "m.dm4")


def _example(name: str) -> bytes:
    image = np.random.default_rng(3).integers(0, 99, (9, 14)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        if ".mrc" in name:
            plain = _mrc(Path(folder) / "plain.mrc", image.astype(np.int16)).read_bytes()
            path.write_bytes({"gz": gzip.compress, "bz2": bz2.compress}.get(name.split(".")[-1], bytes)(plain))
        elif name.endswith("tif"):
            tifffile.imwrite(path, image, compression="lzw")
        else:
            Image.fromarray(image).save(path)
        return path.read_bytes()


@pytest.mark.parametrize("name", ["m.mrc", "m.mrc.gz", "m.mrc.bz2", "m.tif", "m.png", "m.jpg"])
@_EXAMPLES
@given(cut=st.integers(0, 2000), at=st.integers(0, 1500), junk=st.binary(max_size=4))
def test_a_damaged_image_never_raises_anything_but_one_line(name: str, cut: int, at: int, junk: bytes) -> None:
    content = _example(name)[:-cut] if cut % 3 == 1 else _example(name)
    at %= len(content) + 1
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / name
        path.write_bytes(content[:at] + junk + content[at + len(junk) :])
        for read in (lambda: read_micrograph(path, pixel_size=1.0), lambda: read_header(path)):
            message = ""
            try:
                read()
            except DeepPickerError as error:
                message = str(error)
            assert not message or (name in message and len(message.splitlines()) == 1)


@pytest.mark.data
def test_real_micrographs_are_read(data: Path) -> None:
    path = min((data / "real" / "apoferritin-10146" / "micrographs").glob("*.mrc"))
    found = read_micrograph(path, pixel_size=1.5)
    assert found.image.shape == (1200, 1240) == read_header(path)[:2]
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(found.image, mrc.data)
