"""MRC images, plain or compressed with gzip or bzip2. The header layout is that of `mrcfile`.

The pixels are read here rather than by mrcfile: a damaged header must not make it allocate gigabytes, and
every problem must end in one line that names the file.
"""

from __future__ import annotations

import bz2
import gzip
import warnings
import zlib
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import byte_order_from_machine_stamp

from deeppicker.errors import DeepPickerError, FormatError
from deeppicker.formats.room import refuse_large_image
from deeppicker.formats.text import one_line, unreadable

# MRC2014 (Cheng et al. 2015, J. Struct. Biol. 192, 146); mode 12 is a later addition to it.
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_REFUSED_MODES = {
    3: "complex integers (mode 3), a Fourier transform; give the real-space image",
    4: "complex numbers (mode 4), a Fourier transform; give the real-space image",
    16: "RGB colours (mode 16); give the grey-scale image",
    101: "4-bit integers (mode 101), normally a raw movie frame; motion-correct it, or unpack it, "
    "for example with IMOD's newstack -mode 1",
}
_HEADER_BYTES = 1024
_LONGEST_SIDE = 1 << 18
_LONGEST_EXTENSION = 1 << 26  # bytes of the extended header, which compressed files make us read through
_STRIP_BYTES = 1 << 22  # that are read at a time
_IMOD_STAMP = 1146047817  # in bytes 152-155; bit 0 of the next word says that mode 0 holds signed bytes


@dataclass(frozen=True)
class MrcHeader:
    """What a reader needs of an MRC header.

    Parameters
    ----------
    height, width : int
        Rows and columns.
    dtype : numpy dtype
        Of the stored pixels, with byte order.
    offset : int
        Bytes before the first pixel.
    voxel_size : (float, float)
        Along x and y in Å, as stored: 0 where the header has none.
    """

    height: int
    width: int
    dtype: np.dtype[Any]
    offset: int
    voxel_size: tuple[float, float]

    @property
    def nbytes(self) -> int:
        """Bytes of the image as stored."""
        return self.height * self.width * self.dtype.itemsize


def read_header(path: Path) -> MrcHeader:
    """Read and check the header of an MRC file that holds one image.

    Raises
    ------
    FormatError
        If the file is not an MRC file, holds several sections, or pixels that are no grey-scale image.
    InputError
        If it cannot be opened.

    Warns
    -----
    UserWarning
        If the header breaks the format in a way that leaves no doubt about the image.
    """
    try:
        with _open(path) as stream:
            return _parse_header(path, stream.read(_HEADER_BYTES), _size(path, stream))
    except (OSError, EOFError, zlib.error) as error:
        raise _reading_failed(path, error) from error


def read(path: Path) -> tuple[Float32[np.ndarray, "height width"], MrcHeader]:
    """Read an image and its header; row 0 is the first row of the file. Raises and warns as `read_header`."""
    try:
        with _open(path) as stream:
            header = _parse_header(path, stream.read(_HEADER_BYTES), _size(path, stream))
            return _read_pixels(path, stream, header), header
    except (OSError, EOFError, zlib.error) as error:
        raise _reading_failed(path, error) from error


def _open(path: Path) -> BufferedIOBase:
    with path.open("rb") as stream:
        start = stream.read(4)
    if start[:3] == b"\x1f\x8b\x08":
        return gzip.open(path, "rb")
    if start[:3] == b"BZh":
        return bz2.open(path, "rb")
    return path.open("rb")


def _reading_failed(path: Path, error: Exception) -> DeepPickerError:
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable(path, error)
    return FormatError(one_line(f"{path} is damaged ({error}); compress or copy it again"))


def _read_pixels(path: Path, stream: BufferedIOBase, header: MrcHeader) -> Float32[np.ndarray, "height width"]:
    """Read the pixels strip by strip, so that they are never held twice."""
    stream.seek(header.offset)
    image = _empty(path, header) if _may_hold(path, stream, header) else None
    rows = max(1, _STRIP_BYTES // (header.width * header.dtype.itemsize))
    for top in range(0, header.height, rows):
        if image is None or not _fill(stream, image[top : top + rows], header.dtype):
            raise FormatError(
                one_line(
                    f"{path} is cut short: {header.width}×{header.height} pixels of {header.dtype.name} need "
                    f"{header.offset + header.nbytes:,} bytes; copy it again"
                )
            )
    if stream.read(1):
        warnings.warn(one_line(f"{path} has extra bytes after its image; ignored"), stacklevel=4)
    assert image is not None
    return image


def _empty(path: Path, header: MrcHeader) -> Float32[np.ndarray, "height width"]:
    refuse_large_image(path, header.height, header.width)
    try:
        return np.empty((header.height, header.width), dtype=np.float32)
    except MemoryError as error:
        size = f"{header.width}×{header.height}"
        raise FormatError(
            one_line(f"{path} claims {size} pixels, more than fit into memory; check the file")
        ) from error


def _fill(stream: BufferedIOBase, rows: Float32[np.ndarray, "rows width"], dtype: np.dtype[Any]) -> bool:
    """Read the next rows of an image; return False where the file ends too early."""
    stored = rows if dtype == rows.dtype else np.empty(rows.shape, dtype)
    view, found = stored.view(np.uint8).reshape(-1), 0
    while found < len(view):
        more = stream.readinto(view[found:].data)
        if not more:
            return False
        found += more
    if stored is not rows:
        rows[:] = stored
    return True


def _may_hold(path: Path, stream: BufferedIOBase, header: MrcHeader) -> bool:
    """Return False if the file is known to be too short; then nothing is allocated for a damaged header."""
    size = _size(path, stream)
    return size is None or size >= header.offset + header.nbytes


def _size(path: Path, stream: BufferedIOBase) -> int | None:
    """Return the bytes of the file, None where only reading it all would tell."""
    return None if isinstance(stream, gzip.GzipFile | bz2.BZ2File) else path.stat().st_size


def _parse_header(path: Path, raw: bytes, size: int | None) -> MrcHeader:
    if len(raw) < _HEADER_BYTES:
        found = "empty" if not raw else f"only {len(raw)} bytes long, less than an MRC header"
        raise FormatError(one_line(f"{path} is {found}; copy it again"))
    fields, order = _with_byte_order(path, raw)
    if fields is None:
        raise FormatError(
            one_line(f"{path} is not an MRC file (no sensible image size or mode in its header); check the file")
        )
    mode = int(fields["mode"])
    if mode in _REFUSED_MODES:
        raise FormatError(one_line(f"{path} holds {_REFUSED_MODES[mode]}"))
    if fields["nz"] == 0:
        warnings.warn(one_line(f"{path} has no sections by its header; read as one"), stacklevel=4)
    elif fields["nz"] != 1:
        raise FormatError(
            one_line(
                f"{path} holds {fields['nz']} sections, not one: a movie or a particle stack; "
                "motion-correct a movie first and give the motion-corrected micrograph"
            )
        )
    dtype = "u1" if mode == 0 and _imod_unsigned(raw, order) else _DTYPES[mode]
    stored = np.dtype(order + dtype)
    height, width = int(fields["ny"]), int(fields["nx"])
    return MrcHeader(
        height=height,
        width=width,
        dtype=stored,
        offset=_offset(path, int(fields["nsymbt"]), height * width * stored.itemsize, size),
        voxel_size=(
            _spacing(fields["cella"]["x"], fields["mx"]),
            _spacing(fields["cella"]["y"], fields["my"]),
        ),
    )


def _offset(path: Path, extended: int, nbytes: int, size: int | None) -> int:
    """Return where the pixels begin; a length of the extended header that the file's size belies is ignored."""
    if extended != 0 and size == _HEADER_BYTES + nbytes:
        warnings.warn(
            one_line(f"{path} has no room for an extended header of {extended:,} bytes; read without it"), stacklevel=5
        )
        return _HEADER_BYTES
    if not 0 <= extended <= _LONGEST_EXTENSION:
        raise FormatError(one_line(f"{path} has an extended header of {extended:,} bytes; check the file"))
    return _HEADER_BYTES + extended


def _with_byte_order(path: Path, raw: bytes) -> tuple[Any, str]:
    """Return the header's fields in the byte order in which they make sense, None if there is none."""
    problems = []
    fields: Any = np.frombuffer(raw, HEADER_DTYPE)[0]
    if not bytes(fields["map"]).startswith(b"MAP"):
        problems.append("no 'MAP' at byte 208")
    try:
        stamped = byte_order_from_machine_stamp(fields["machst"])
    except ValueError:
        problems.append("an unknown machine stamp")
        stamped = "<"
    for order in (stamped, ">" if stamped == "<" else "<"):
        fields = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
        if _plausible(fields):
            if order != stamped:
                problems.append("a machine stamp of the other byte order")
            if problems:
                warnings.warn(one_line(f"{path} has {' and '.join(problems)}; read anyway"), stacklevel=5)
            return fields, order
    return None, stamped


def _plausible(fields: Any) -> bool:
    return bool(
        (int(fields["mode"]) in _DTYPES or int(fields["mode"]) in _REFUSED_MODES)
        and 1 <= fields["nx"] <= _LONGEST_SIDE
        and 1 <= fields["ny"] <= _LONGEST_SIDE
        and fields["nz"] >= 0
    )


def _imod_unsigned(raw: bytes, order: str) -> bool:
    stamp, flags = np.frombuffer(raw, np.dtype(order + "i4"), count=2, offset=152)
    return bool(stamp == _IMOD_STAMP and not flags & 1)


def _spacing(cell: Any, intervals: Any) -> float:
    """Return cell edge over intervals; the header holds float32, so digits past the sixth are noise."""
    if intervals == 0:
        return 0.0
    return float(f"{float(cell) / float(intervals):.6g}")
