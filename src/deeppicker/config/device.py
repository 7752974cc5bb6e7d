"""Where networks compute."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deeppicker.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """The processor or a graphics card. The results agree within rounding."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda[:N]`` or ``mps``. ``cuda``: all NVIDIA or AMD cards; ``cuda:1``: the second one;
    ``mps``: Apple's graphics; ``auto``: the cards that can be used, or else the processor."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", self.device, re.ASCII):
            raise InputError(f"--device {self.device} is none; choose auto, cpu, cuda, cuda:N or mps")
