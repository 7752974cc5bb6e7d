"""Break files of every format at random and read them: a result or one line of error, never a traceback or a hang.

``python tests/fuzz_formats.py --files 100000 --seed 1`` prints how many files of each format were read and how many
refused, and ends with 1 if a reader raised anything else, returned positions that are not finite, or took more time or
memory than the limits. Faults are random bytes, and what people would do on purpose: sizes that no image has, files
with holes, compressed zeros, names that no file should have, brackets without end. The same seed makes the same files.
`tests/formats/test_fuzz.py` runs a few of them in the test suite.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import mrcfile
import numpy as np
import tifffile
from PIL import Image

from deeppicker.core import Picks
from deeppicker.errors import DeepPickerError
from deeppicker.formats import find_micrographs, read_header, read_micrograph, read_picks, write_picks
from deeppicker.formats.coordinates.cryosparc import MicrographSize

LIMIT = 5.0  # seconds a file; the largest is a few kilobytes
MEMORY = 1 << 28  # bytes that reading may take
_HUGE = (1 << 16, 300_000, 44_000, 1 << 24, 0x7FFFFFF0, 0xFFFFFFFF)
_NAMES = (
    b"../../../etc/passwd",
    b"/dev/zero",
    b"\x1b[31mred",
    b"n" * 300,
    b"a/" * 3000,
    b"=1+1",
    b"-rf",
    b".",
    b"~",
    b"\xe2\x80\xae",
)
_DEPTH = (b"[" * 100_000, b'{"a":' * 100_000, b"(" * 100_000, b"'" * 9_999)
_ZEROS = bytes(1 << 20)
_HEADER = (
    bytes(8) + struct.pack("<II", 1, 2) + bytes(192) + b"MAP DD\0\0" + bytes(808)
)  # of an MRC file, sizes left out
_WORDS = "nan inf -inf 1e999 -1 0 99999999999999999999 1_000 <NA> loop_ data_ _rlnCoordinateX #1 ' \" ; , [ { } ] : é"
_TOKENS = [
    *(word.encode() for word in _WORDS.split()),
    *(b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\x1a", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8"),
    *(b" " * 999, b"9" * 400, bytes(4), b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\x80\x7f", b"\0\0\xc0\x7f"),
]


def seeds() -> dict[str, bytes]:
    """Return a small whole file of every format by its name."""
    rng = np.random.default_rng(0)
    picks = [Picks(name, rng.uniform(0, 90, (5, 2)), rng.uniform(size=5)) for name in ("a b", "é")]
    sizes = {item.micrograph: MicrographSize(90, 120, 1.5) for item in picks}
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("p.star", "p.cs", "p.csv", "p.tsv", "p.txt"):
            write_picks(folder / file, picks, pixel_size=1.5, sizes=sizes)
        for file in ("p.box", "p.cbox", "p_info.json", "p.pos", "p_automatch.star"):
            write_picks(folder / file, picks[:1], box_size=20)
        files |= {path.name: path.read_bytes() for path in folder.iterdir()}
    files["auto.star"] = (
        b"data_coordinate_files\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\na.mrc p_automatch.star\n"
    )
    files["list.star"] = (
        b"data_\n_rlnMicrographName a.mrc\n_rlnCoordinateX 1\n_rlnCoordinateY 2\n_rlnMagnification 1000\n"
    )
    files["cryoppp.csv"] = b"X-Coordinate,Y-Coordinate,Diameter\n10,20,130\n"
    files["old.cbox"] = b"10\t20\t100\t60\t0.5\t90\t91\n"
    return files | _images(rng.integers(0, 99, (9, 14)))


def _images(pixels: np.ndarray) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "m.mrc"
        for kind in ("int16", "float16", "float32"):
            with mrcfile.new(path, overwrite=True) as mrc:
                mrc.set_data(pixels.astype(kind))
                mrc.voxel_size = 1.5
            files[f"{kind}.mrc"] = path.read_bytes()
    files["m.mrc.gz"] = gzip.compress(files["int16.mrc"])
    files["m.mrcs.bz2"] = bz2.compress(files["float32.mrc"])
    for kind, frames, compression in (("lzw", 1, "lzw"), ("plain", 1, None), ("movie", 3, None)):
        content = io.BytesIO()
        stack = np.stack([pixels] * frames).astype("u2")
        tifffile.imwrite(content, stack, compression=compression, photometric="minisblack")
        files[f"{kind}.tif"] = content.getvalue()
    for kind in ("png", "jpeg"):
        content = io.BytesIO()
        Image.fromarray(pixels.astype("u1")).save(content, format=kind)
        files[f"m.{kind}"] = content.getvalue()
    return files


def broken(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return the content with one to four random faults."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 200)))
        match rng.randrange(11):
            case 0:
                del data[at:]
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end] * rng.randint(1, 50)
            case 3:
                data[at:end] = rng.randbytes(end - at)
            case 4:
                data[at:at] = rng.choice(_TOKENS)
            case 5:
                token = rng.choice(_TOKENS)
                data[at : at + len(token)] = token
            case 6 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 7 if len(data) >= 4:  # a size, in a header of binary files
                place = rng.randrange(0, min(len(data), 1024) - 3, 2)
                data[place : place + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(_HUGE))
            case 8:
                data = bytearray(bytes(data).replace(rng.choice((b"a b", b"a.mrc", b"a")), rng.choice(_NAMES), 3))
            case 9:
                data[at:at] = rng.choice(_DEPTH)
            case 10:
                start = rng.randrange(len(other) + 1)
                data[at:end] = other[start : start + rng.randint(0, 100)]
    return bytes(data)


def write_broken(path: Path, content: bytes, rng: random.Random) -> None:
    """Write a broken file, now and then with a hole at its end, or with zeros that compression makes small."""
    match rng.randrange(20):
        case 0:
            with path.open("wb") as file:
                file.write(content)
                file.truncate(1 << rng.randrange(20, 42))
        case 1 if path.suffix in (".gz", ".bz2"):
            pack = gzip.compress if path.suffix == ".gz" else bz2.compress
            header = bytearray(_HEADER)
            struct.pack_into("<II", header, 0, rng.choice(_HUGE), rng.choice(_HUGE))
            struct.pack_into("<I", header, 92, rng.choice((0, 0, *_HUGE)))  # of the extended header
            path.write_bytes(pack(bytes(header)) + pack(_ZEROS) * rng.randrange(1, 400))
        case _:
            path.write_bytes(content)


def readers(path: Path) -> list[Callable[[], object]]:
    """Return every way in which the program reads such a file."""
    if path.suffix in (".mrc", ".gz", ".bz2", ".tif", ".png", ".jpeg"):
        return [lambda: read_micrograph(path, pixel_size=1.0), lambda: read_header(path)]
    read = [lambda: read_picks(path, y_direction_known=True)]
    return [*read, lambda: find_micrographs([str(path)])] if path.suffix in (".star", ".cs") else read


def fault(path: Path) -> str | None:
    """Read a file in every way; return what must not happen, None if all is well."""
    for read in readers(path):
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        try:
            found = read()
            if isinstance(found, list):
                bad = [item for item in found if isinstance(item, Picks) and not np.isfinite(item.positions).all()]
                if bad:
                    return "positions that are not finite"
        except DeepPickerError as error:
            if not str(error).isprintable() or not 0 < len(str(error)) <= 2000:
                return f"a message that is not one printable line: {error!r}"[:2000]
        except TimeoutError:
            return f"more than {LIMIT} s\n{traceback.format_exc()}"
        except BaseException:
            return traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def _refused(path: Path) -> bool:
    try:
        readers(path)[0]()
    except DeepPickerError:
        return True
    return False


@contextmanager
def little_memory() -> Iterator[None]:
    """Let the system refuse this process more memory than what it has and `MEMORY`, where there is such a limit."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    used = next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmData"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError


def run(files: int, seed: int, folder: Path, keep: Path | None = None) -> tuple[Counter[str], Counter[str], list[str]]:
    """Break and read ``files`` files; return by format how many were read and how many refused, and the faults."""
    before = signal.signal(signal.SIGALRM, _too_long)
    whole = seeds()
    names = sorted(whole)
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    faults: list[str] = []
    for index in range(files):
        rng = random.Random(f"{seed} {index}")
        name = names[index % len(names)]
        path = folder / name
        write_broken(path, broken(whole[name], whole[rng.choice(names)], rng), rng)
        with warnings.catch_warnings(), little_memory():
            warnings.simplefilter("ignore")
            found = fault(path)
            refused[name] += found is None and _refused(path)
        counts[name] += 1
        if found is not None:
            faults.append(f"{name}, file {index} of seed {seed}: {found}")
            if keep is not None:
                shutil.copy(path, keep / f"{index}_{name}")
        path.write_bytes(whole[name])  # what another file leads to must be whole
    signal.signal(signal.SIGALRM, before)
    return counts, refused, faults


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the files that show a fault")
    options = parser.parse_args()
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        counts, refused, faults = run(options.files, options.seed, Path(folder), options.keep)
    for text in faults:
        print(text, file=sys.stderr)
    seconds = time.process_time() - start
    table = {name: {"files": counts[name], "refused": refused[name]} for name in sorted(counts)}
    print(
        json.dumps(
            {"files": sum(counts.values()), "faults": len(faults), "cpu_seconds": round(seconds), "by_format": table}
        )
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
