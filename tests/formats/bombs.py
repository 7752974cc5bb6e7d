"""Write small files that claim to be huge, read each with little memory, and print what came of it as JSON.

A program of its own, because it limits the memory of its whole process.
"""

import bz2
import gzip
import json
import os
import resource
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from deeppicker.errors import DeepPickerError
from deeppicker.formats import read_micrograph, read_picks
from deeppicker.formats.fingerprint import Fingerprint

BLOCK = bytes(1 << 24)


def mrc_header(width: int, height: int, mode: int, extended: int = 0) -> bytes:
    """Return the header of an MRC file."""
    header = np.zeros(1, HEADER_DTYPE)
    header["nx"], header["ny"], header["nz"], header["mode"] = width, height, 1, mode
    header["nsymbt"], header["map"], header["machst"] = extended, b"MAP ", [0x44, 0x44, 0, 0]
    return bytes(header.tobytes())


def png(width: int, height: int) -> bytes:
    """Return a PNG of one grey value."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(bytes(width + 1)) for _ in range(height)) + packed.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(width: int, height: int) -> bytes:
    """Return a TIFF whose only strip is said to hold an image of this size."""
    data = zlib.compress(BLOCK, 9)
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(data))]
    place = 8 + len(data)
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", place) + data + directory + bytes(4)


def write_all(folder: Path) -> None:
    """Write one bomb of each kind."""
    (folder / "compressed.mrc.bz2").write_bytes(
        bz2.compress(mrc_header(24_000, 24_000, 2)) + b"".join([bz2.compress(BLOCK)] * 140)
    )
    (folder / "compressed.mrc.gz").write_bytes(gzip.compress(mrc_header(100, 100, 2, 2**31 - 1) + BLOCK))
    (folder / "picture.png").write_bytes(png(40_000, 40_000))
    (folder / "strip.tif").write_bytes(tiff(60_000, 60_000))
    with (folder / "holes.mrc").open("wb") as file:
        file.write(mrc_header(44_000, 44_000, 0))
        file.truncate(1024 + 44_000**2)
    with (folder / "holes.star").open("wb") as file:
        file.write(b"data_\n")
        file.truncate(1 << 40)
    (folder / "endless.star").symlink_to("/dev/zero")
    (folder / "endless.mrc").symlink_to("/dev/zero")
    (folder / "endless.cs").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.mrc")
    os.mkfifo(folder / "pipe.csv")
    (folder / "deep_info.json").write_bytes(b"[" * 100_000)


def read(path: Path) -> str:
    """Return the message with which a file is refused."""
    try:
        if ".mrc" in path.name or path.suffix in (".png", ".tif"):
            if ".mrc" in path.name and not path.is_file():
                try:
                    Fingerprint.of(path)
                except DeepPickerError as error:
                    return str(error)
            read_micrograph(path, pixel_size=1.0)
        else:
            read_picks(path)
    except DeepPickerError as error:
        return str(error)
    return "was read"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_all(folder)
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {path.name: read(path) for path in sorted(folder.iterdir())}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"found": found, "grown_mb": grown / 1024}))
