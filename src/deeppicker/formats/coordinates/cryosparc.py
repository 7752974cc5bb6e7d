"""cryoSPARC ``.cs``: a NumPy array of records; positions are fractions of the micrograph, row 0 first.

x and y are fractions of the width and the height, ``micrograph_shape`` is (height, width), and cryoSPARC multiplies the
two. It holds the fractions in single precision, so positions keep about 1/4000 of a pixel. Names of images that
cryoSPARC has imported or motion-corrected begin with the UID of the exposure, 21 digits and an underscore.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from deeppicker.core import MicrographEntry, Picks
from deeppicker.errors import FormatError, InputError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.names import group, uid_of
from deeppicker.formats.relion.star import resolve
from deeppicker.formats.room import refuse_large_text, refuse_special
from deeppicker.formats.text import one_line, unreadable

_PATH, _SHAPE = "location/micrograph_path", "location/micrograph_shape"
_XY = ("location/center_x_frac", "location/center_y_frac")
_SCORE = "pick_stats/ncc_score"
_PIXEL_SIZE = "location/micrograph_psize_A"
_UID = "location/micrograph_uid"
# What a table of micrographs or of exposures calls the same things, the finished image first.
_BLOBS = ("micrograph_blob", "micrograph_blob_non_dw", "location/micrograph")
_COMPRESSED = b"\x95CSDAT"


class MicrographSize(NamedTuple):
    """What a ``.cs`` file says of a micrograph besides its name: pixels, Å per pixel, and the exposure's UID."""

    height: int
    width: int
    pixel_size: float | None = None
    uid: int | None = None


def read(path: Path) -> list[Picks]:
    """Read the picks of every micrograph in the file.

    Raises
    ------
    FormatError
        If the file is not one of cryoSPARC's, holds no locations, or bad ones; the message gives the record.
    InputError
        If it cannot be opened.
    """
    records = _load(path)
    names = _texts(path, records, _PATH)
    shape = _numbers(path, records, _SHAPE, 2)
    if not (shape >= 1).all():
        bad = int(np.flatnonzero(~(shape >= 1).all(axis=1))[0])
        raise FormatError(one_line(f"{path}: {_SHAPE} in record {bad + 1} is {shape[bad].tolist()}; export it again"))
    fractions = np.concatenate([_numbers(path, records, label, 1) for label in _XY], axis=1)
    scores = _numbers(path, records, _SCORE, 1)[:, 0] if _SCORE in _fields(records) else np.full(len(records), np.nan)
    return group(names, fractions * shape[:, ::-1], scores)


def read_micrographs(path: Path) -> list[MicrographEntry]:
    """Read the micrographs that a file of exposures, micrographs or particles names, once each, in order.

    Raises
    ------
    FormatError
        If it names none.
    InputError
        If it cannot be opened.
    """
    records = _load(path)
    fields = _fields(records)
    blob = next((f"{blob}{sep}" for blob in _BLOBS for sep in "/_" if f"{blob}{sep}path" in fields), None)
    if blob is None:
        raise FormatError(one_line(f"{path} names no micrographs: needs {_BLOBS[0]}/path; found {_found(records)}"))
    names = _texts(path, records, f"{blob}path")
    shapes = _optional(path, records, f"{blob}shape", 2)
    sizes = _optional(path, records, f"{blob}psize_A", 1)[:, 0]
    label = _UID if blob.startswith("location") else "uid"
    uids = records[label].tolist() if label in fields and records[label].dtype.kind == "u" else [None] * len(names)
    entries: dict[str, MicrographEntry] = {}
    for name, shape, size, uid in zip(names, shapes.tolist(), sizes.tolist(), uids, strict=True):
        entries.setdefault(
            name,
            MicrographEntry(
                name,
                resolve(name, path),
                pixel_size=size if 0 < size < np.inf else None,
                shape=(int(shape[0]), int(shape[1])) if min(shape) >= 1 else None,
                uid=uid,
            ),
        )
    return list(entries.values())


def write(path: Path, picks: Sequence[Picks], sizes: Mapping[str, MicrographSize]) -> None:
    """Write the picks of all micrographs; one without picks leaves no trace in the file.

    Parameters
    ----------
    path : path
        The file; its folder must exist.
    picks : sequence of Picks
        The UID of an exposure is taken from ``sizes``, else from the name of the micrograph, else invented.
    sizes : mapping of str to MicrographSize
        By micrograph name.

    Raises
    ------
    InputError
        If ``sizes`` lacks a micrograph.
    OutputError
        If the file cannot be written.
    """
    names = [item.micrograph.encode("utf-8", "surrogateescape") for item in picks]
    dtype = np.dtype(
        [
            ("uid", "<u8"),
            (_UID, "<u8"),
            ("location/exp_group_id", "<u4"),
            (_PATH, f"S{max(map(len, names), default=1) or 1}"),
            (_SHAPE, "<u4", (2,)),
            *((label, "<f4") for label in _XY),
            (_PIXEL_SIZE, "<f4"),
            (_SCORE, "<f4"),
            ("pick_stats/power", "<f4"),
            ("pick_stats/template_idx", "<u4"),
            ("pick_stats/angle_rad", "<f4"),
        ]
    )
    parts = [_records(item, name, sizes, dtype) for item, name in zip(picks, names, strict=True) if len(item)]
    content = io.BytesIO()
    np.save(content, np.concatenate([np.empty(0, dtype), *parts]), allow_pickle=False)
    atomic_write(path, content.getvalue())


def _records(
    picks: Picks, name: bytes, sizes: Mapping[str, MicrographSize], dtype: np.dtype[Any]
) -> Shaped[np.ndarray, " n"]:
    if picks.micrograph not in sizes:
        raise InputError(
            one_line(f"a .cs file needs the image size of {picks.micrograph}; give its image with --micrographs")
        )
    size = sizes[picks.micrograph]
    records = np.zeros(len(picks), dtype)
    known = size.uid if size.uid is not None else uid_of(picks.micrograph)
    records["uid"] = [_invented_uid(name, index) for index in range(len(picks))]
    records[_UID] = known if known is not None else _invented_uid(name, -1)
    records[_PATH] = name
    records[_SHAPE] = (size.height, size.width)
    for i, (label, side) in enumerate(zip(_XY, (size.width, size.height), strict=True)):
        records[label] = picks.positions[:, i] / side
    records[_PIXEL_SIZE] = size.pixel_size or 0.0
    records[_SCORE] = picks.scores
    records["pick_stats/power"] = np.nan_to_num(picks.scores)
    return records


def _invented_uid(name: bytes, index: int) -> int:
    """Return a number that is the same in every run, and as good as never the same for two particles."""
    return int.from_bytes(hashlib.blake2b(name + b"\0%d" % index, digest_size=8).digest(), "little")


# --- reading --------------------------------------------------------------------------------------


def _load(path: Path) -> Shaped[np.ndarray, " n"]:
    """Read the records; like `numpy.load`, but nothing is allocated that the file does not hold."""
    refuse_large_text(path, refuse_special(path).st_size)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if content.startswith(_COMPRESSED):
        raise FormatError(
            one_line(f"{path} is a compressed .cs file; save it with cryosparc-tools as format=NUMPY_FORMAT first")
        )
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(stream, max_header_size=len(content))
    except Exception as error:  # whatever a damaged header leads NumPy to
        raise FormatError(one_line(f"{path} is not a cryoSPARC file ({_short(error)}); export it again")) from error
    if dtype.names is None or dtype.hasobject or len(shape) != 1 or dtype.itemsize == 0:
        raise FormatError(one_line(f"{path} is not a cryoSPARC file: needs a list of records; export it again"))
    body = memoryview(content)[stream.tell() :]
    if shape[0] < 0 or len(body) < shape[0] * dtype.itemsize:
        raise FormatError(one_line(f"{path} is cut short: its {shape[0]:,} records are incomplete; copy it again"))
    records: Shaped[np.ndarray, " n"] = np.frombuffer(body, dtype, count=shape[0])
    return records


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:100]


def _fields(records: Shaped[np.ndarray, " n"]) -> tuple[str, ...]:
    return records.dtype.names or ()


def _found(records: Shaped[np.ndarray, " n"]) -> str:
    fields = _fields(records)
    return ", ".join(fields[:12]) + (f" and {len(fields) - 12} more" if len(fields) > 12 else "")


def _column(path: Path, records: Shaped[np.ndarray, " n"], label: str) -> Shaped[np.ndarray, "n ..."]:
    if label not in _fields(records):
        raise FormatError(
            one_line(f"{path} has no {label}; found {_found(records)}; give the file of picks, or the passthrough file")
        )
    column: Shaped[np.ndarray, "n ..."] = records[label]
    return column


def _texts(path: Path, records: Shaped[np.ndarray, " n"], label: str) -> list[str]:
    column = _column(path, records, label)
    if column.ndim != 1 or column.dtype.kind not in "SU":
        raise FormatError(one_line(f"{path}: {label} holds no text; export it again"))
    raw = column.tolist()
    try:
        names = [item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item for item in raw]
        "".join(names).encode("utf-8", "surrogateescape")  # 4-byte characters that are none
    except UnicodeError as error:
        raise FormatError(one_line(f"{path}: {label} holds no text ({error}); export it again")) from error
    names = [name.removeprefix(">") for name in names]  # cryoSPARC's mark of a path in its project
    bad = next((row for row, name in enumerate(names) if not name.strip() or "\0" in name), None)
    if bad is not None:
        raise FormatError(one_line(f"{path}: {label} in record {bad + 1} is {names[bad]!r}; export it again"))
    return names


def _numbers(path: Path, records: Shaped[np.ndarray, " n"], label: str, width: int) -> Float64[np.ndarray, "n width"]:
    column = _column(path, records, label)
    if column.dtype.kind not in "iuf" or column.size != len(records) * width:
        raise FormatError(one_line(f"{path}: {label} does not hold {width} numbers per record; export it again"))
    with np.errstate(all="ignore"):
        values = np.asarray(column, dtype=np.float64).reshape(len(records), width)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1)) if label != _SCORE else np.empty(0)
    if len(bad):
        row = int(bad[0])
        shown = values[row].tolist() if width > 1 else values[row, 0]
        raise FormatError(one_line(f"{path}: {label} in record {row + 1} is {shown}; leave that record out"))
    return values


def _optional(path: Path, records: Shaped[np.ndarray, " n"], label: str, width: int) -> Float64[np.ndarray, "n width"]:
    if label not in _fields(records):
        return np.zeros((len(records), width))
    return _numbers(path, records, label, width)
