"""The memory of the server stays the same however many micrographs are looked at."""

from __future__ import annotations

import http.client
import os
import re
from pathlib import Path

import mrcfile
import numpy as np
import psutil
import pytest

from driven import start, stop

SIDE, SIZE = 1536, 1536 * 1536 * 4 / 1e6  # pixels, and MB of an image as it is kept
KEPT = (256 + 32) * 1.05  # MB of images and of their pictures


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux, where memory is told exactly")
def test_memory_is_flat_once_the_kept_images_are_there(tmp_path: Path):
    image = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    with mrcfile.new(tmp_path / "first.mrc", data=image) as file:
        file.voxel_size = 2.0
    (tmp_path / "micrographs").mkdir()
    for number in range(90):
        os.link(tmp_path / "first.mrc", tmp_path / "micrographs" / f"mic{number:03d}.mrc")
    program = start(str(tmp_path / "micrographs"), "--output", str(tmp_path / "picks"), "--diameter", "150")
    memory = psutil.Process(program.process.pid).memory_info
    before = memory().rss / 1e6
    ask = http.client.HTTPConnection("127.0.0.1", int(re.findall(r":(\d+)/", program.url)[0]), timeout=120)
    ask.request("GET", "/" + program.url.rpartition("/")[2])
    answer = ask.getresponse()
    answer.read()
    cookie = str(answer.getheader("set-cookie")).partition(";")[0]
    seen = []
    for number in range(90):
        for picture in ("image?factor=1&flat=40", "tile/1/0/0?factor=1&flat=40", "thumbnail"):
            ask.request("GET", f"/api/micrographs/{number}/{picture}", headers={"cookie": cookie})
            answer = ask.getresponse()
            assert (answer.status, bool(answer.read())) == (200, True)
        seen.append(memory().rss / 1e6)
    ask.close()
    stop(program)
    assert max(seen) < before + KEPT + 12 * SIZE  # and what is at work
    assert np.median(seen[75:]) < np.median(seen[30:45]) + 4 * SIZE
