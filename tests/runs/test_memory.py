"""Training and picking take little memory, however much there is to do; the system enforces it here."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scenes
from deeppicker.formats import read_picks
from deeppicker.networks.model import save_model
from scenes import DIAMETER, PIXEL_SIZE

NUMBER = 200_000  # windows, 1.6 GB
MOST = int(1.5e9)  # bytes that `sensible_workers` plans for each worker
SOME_STEPS = """
import json, sys
from pathlib import Path
import torch
from deeppicker.config import TrainConfig
from deeppicker.training.window_feed import WindowFeed
from deeppicker.training.windows import new_examples, open_examples
from deeppicker.networks.model import new_network
from deeppicker.training.loop import Training, train

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

class EnoughError(Exception):
    pass

class Counted(Training):
    def step(self, *arguments):
        super().step(*arguments)
        peaks.append(anonymous())
        if len(peaks) == 20:
            raise EnoughError

torch.set_num_threads(1)
folder, number, peaks = Path(sys.argv[1]), int(sys.argv[2]), []
new_examples(folder, number, 64).labels[::2] = 1
examples = open_examples(folder)
before = anonymous()
try:
    training = Counted(new_network(0), TrainConfig(batch_size=64))
    train(training, WindowFeed(examples, examples, training.settings, training.ranks))
except EnoughError:
    pass
print(json.dumps([before, max(peaks), len(peaks)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc, which is of Linux")
def test_a_large_set_of_windows_trains_in_little_memory(tmp_path: Path):
    words = [sys.executable, "-c", SOME_STEPS, str(tmp_path / "windows"), str(NUMBER)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    before, peak, steps = json.loads(done.stdout)
    assert steps == 20
    assert (tmp_path / "windows" / "windows.npy").stat().st_size > NUMBER * 64 * 64 * 2
    assert peak - before < 150  # MB, of 1,640 that the windows have


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the data of a process")
def test_a_worker_that_may_take_no_more_than_is_planned_for_it_picks_a_large_camera_and_refuses_what_is_larger(
    tmp_path: Path,
):
    rng = np.random.default_rng(0)
    scenes.write_mrc(tmp_path / "in" / "k3.mrc", rng.normal(size=(4092, 5760)), PIXEL_SIZE / 5)
    small = scenes.write_mrc(tmp_path / "in" / "small.mrc", scenes.scene(0).micrograph.image)
    header = np.frombuffer(small.read_bytes()[:1024], dtype="<i4").copy()
    header[:2] = 18_000, 14_000  # below what is refused everywhere
    with (tmp_path / "in" / "huge.mrc").open("wb") as file:
        file.write(header.tobytes())
        file.truncate(1024 + 4 * 18_000 * 14_000)
    save_model(scenes.trained(), tmp_path / "model.safetensors")
    words = ["pick", "in", "--output", "out", "--model", "model.safetensors", "--diameter", str(DIAMETER)]
    done = subprocess.run(
        [sys.executable, "-m", "deeppicker", *words, "--workers", "1", "--retries", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MOST, MOST)),
    )
    assert done.returncode == 1, done.stderr
    assert "huge.mrc holds 18,000×14,000 pixels, and to read it takes 2.0 GB of memory" in done.stderr
    assert [item.key for item in read_picks(tmp_path / "out")] == ["k3", "small"], done.stderr
