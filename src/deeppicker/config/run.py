"""Settings of a whole run: its subject, how micrographs arrive, and all others together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deeppicker.config.device import DeviceConfig
from deeppicker.config.learning import LearnFirstConfig
from deeppicker.config.limits import positive
from deeppicker.config.picking import DEFAULT_MODEL, DiameterConfig, PickConfig, SelectConfig
from deeppicker.config.work import ClusterConfig, WorkConfig


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The particles to pick, and the model."""

    diameter: float | None = None
    """Particle diameter in Å; default: estimated from some micrographs, unless the model was trained on one molecule or
    the output folder holds picks, whose diameter is then used."""

    pixel_size: float | None = None
    """Å per pixel; default: from the STAR file or the image header."""

    model: str = DEFAULT_MODEL
    """Name of a model in the package, or a model file."""

    invert: bool = False
    """The particles are bright on a darker background."""


@dataclass(frozen=True, kw_only=True)
class ArrivalConfig:
    """How to follow arriving micrographs, and when to stop."""

    settle: float | int = 5
    """Seconds without change after which a file counts as complete; ten times as many for one that is shorter than its
    header says, or ends in zeros."""

    interval: float | int = 10
    """Seconds between two looks into the folders, even without a notice from the system."""

    stop_file: Path | None = None
    """File whose appearance stops the command; default: STOP in the output folder."""

    idle: float | int | None = None
    """Minutes without a new micrograph after which the command stops; default: never."""

    def __post_init__(self) -> None:
        positive(self, "settle", "interval", "idle")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of a run except its micrographs and its folder."""

    subject: Subject = Subject()
    learning: LearnFirstConfig = LearnFirstConfig()
    select: SelectConfig = SelectConfig()
    work: WorkConfig = WorkConfig()
    cluster: ClusterConfig = ClusterConfig()
    size: DiameterConfig = DiameterConfig()
    steps: PickConfig = PickConfig()
    device: DeviceConfig = DeviceConfig()
    arrivals: ArrivalConfig = ArrivalConfig()

    recursive: bool = False
    """Pick also the micrographs of folders in folders, as EPU leaves them."""

    overwrite: bool = False
    """Start again even if the output folder holds picks made with other settings."""

    shard: str | None = None
    """``3/16``: pick only the third of 16 parts of the micrographs, for job arrays. All parts share the output folder;
    the last one to finish chooses the threshold for all."""
