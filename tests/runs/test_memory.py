"""Training holds a few windows in memory, however many there are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NUMBER = 200_000  # windows, 1.6 GB
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
