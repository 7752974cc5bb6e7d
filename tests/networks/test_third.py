"""A third network is one class and one entry: it is trained, kept in a file, and picks like those in the package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import deeppicker
import scenes
from deeppicker.config import CropConfig, LearnConfig, PrepareConfig, TrainConfig, TrainSettings
from deeppicker.core import Prepared, ScoreMap
from deeppicker.evaluation.matching import match
from deeppicker.networks import kinds
from deeppicker.networks.base import Loss, Network
from deeppicker.networks.batches import Batch, CropBatch
from deeppicker.networks.model import new_model


class Template(Network):
    """One convolution, whose kernel becomes the average particle."""

    kind = "template"
    preparation: ClassVar[PrepareConfig] = PrepareConfig(window=18, lowpass=0.0, background=1.5)
    stride = 2
    tile = 4096
    peak_window = 0.8
    learns_from = CropBatch
    defaults: ClassVar[TrainSettings] = TrainSettings(
        epochs=1, batch_size=4, learning_rate=0.02, momentum=0.0, weight_decay=0.0, seed=0
    )
    adapt_epochs = 1
    gradient_limit = 10.0

    def __init__(self, reach: int = 6) -> None:
        super().__init__()
        self.template = nn.Conv2d(1, 1, 2 * reach + 2, stride=2, padding=reach)
        self.strength = nn.Parameter(torch.ones(()))

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {"reach": self.template.padding[0]}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.strength * self.template(images[:, None])[:, 0]

    def loss(self, outputs: torch.Tensor, batch: Batch) -> Loss:
        assert isinstance(batch, CropBatch)
        known = ~batch.centres.isnan()
        wanted, found = batch.centres[known], outputs[known]
        value = functional.binary_cross_entropy_with_logits(found, wanted)
        return Loss(value, ((found > 0) == (wanted > 0.5)).float().mean())

    def optimizer(self, settings: TrainSettings) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=settings.learning_rate)

    def score_map(self, prepared: Prepared, step: int, tile: int) -> ScoreMap:  # noqa: ARG002 - small and coarse
        height, width = (side // 2 * 2 for side in prepared.image.shape)
        image = torch.from_numpy(prepared.image[:height, :width])[None]
        logits = self(image)[0].numpy()
        return ScoreMap(logits, prepared.grid.derive((0.5, 0.5), 2.0))


@pytest.mark.slow
def test_a_third_network_is_one_class_and_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(kinds.NETWORKS, Template.kind, f"{__name__}:Template")
    config = LearnConfig(crops=CropConfig(crop=64, wide=0.0, noise_crops=0.0), train=TrainConfig(epochs=2))
    data = scenes.dataset(*(scenes.scene(seed) for seed in range(100, 104)))
    losses = []
    deeppicker.train_model(
        new_model(0, "template"), [data], config, tmp_path / "m", lambda run: losses.append(run.history[-1].train_loss)
    )
    assert losses[1] < losses[0]
    model = deeppicker.load_model(tmp_path / "m")
    assert isinstance(model.network, Template)
    assert model.network.arguments == {"reach": 6}
    scene = scenes.scene(1)
    picks = deeppicker.pick_micrograph(scene.micrograph, model, scenes.DIAMETER)
    best = picks.positions[: len(scene.positions)]
    right = len(match(best, scene.positions, 0.2 * scenes.BOX)[0])
    assert right >= 0.9 * len(scene.positions)
    assert np.isfinite(picks.scores).all()


@pytest.mark.parametrize("kind", kinds.NETWORKS)
def test_every_network_is_entered_under_its_own_name(kind: str):
    assert new_model(0, kind).network.kind == kind


def test_a_network_that_nobody_knows_is_refused():
    with pytest.raises(
        deeppicker.DeepPickerError, match="no network is called 'third'; set --network to dense or paper"
    ):
        new_model(0, "third")
