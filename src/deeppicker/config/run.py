"""A whole run: what is picked, how micrographs arrive, and all settings together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deeppicker.config.limits import positive
from deeppicker.config.picking import DEFAULT_MODEL, DiameterConfig, PickConfig, SelectConfig
from deeppicker.config.work import ClusterConfig, WorkConfig


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is picked, and how."""

    diameter: float | None = None
    """Particle diameter in Å. Default: that of the model, if it was trained on one molecule, or of the picks in the
    output folder; else it is estimated from some of the micrographs."""

    pixel_size: float | None = None
    """Å per pixel; default: what the STAR file or the image header says."""

    model: str = DEFAULT_MODEL
    """Name of a model in the package, or a model file."""

    invert: bool = False
    """The particles are bright on a darker background."""


@dataclass(frozen=True, kw_only=True)
class ArrivalConfig:
    """How micrographs are followed as they arrive, and when that ends."""

    settle: float | int = 5
    """Seconds for which a file must stay unchanged before it is taken for complete."""

    interval: float | int = 10
    """Seconds after which the folders are looked at again, whether the system has notified of a new file or not."""

    stop_file: Path | None = None
    """File whose appearance ends the command; default: STOP in the output folder."""

    idle: float | int | None = None
    """Minutes without a new micrograph after which the command ends; default: never."""

    def __post_init__(self) -> None:
        positive(self, "settle", "interval", "idle")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of a run but its micrographs and its folder."""

    subject: Subject = Subject()
    select: SelectConfig = SelectConfig()
    work: WorkConfig = WorkConfig()
    cluster: ClusterConfig = ClusterConfig()
    size: DiameterConfig = DiameterConfig()
    steps: PickConfig = PickConfig()
    arrivals: ArrivalConfig = ArrivalConfig()

    overwrite: bool = False
    """Start again although the output folder holds picks made with other settings."""

    shard: str | None = None
    """``3/16``: pick only the third of 16 parts of the micrographs, for job arrays. All parts have the same output
    folder; the last one that ends chooses the threshold for all."""
