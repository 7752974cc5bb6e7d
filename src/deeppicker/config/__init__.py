"""Every setting with its default, unit, meaning and source. The command line is generated from these.

"Section" refers to Wang et al. (2016), "DeepPicker: a deep learning approach for fully automated particle picking in
cryo-EM". A *box* is the square window that holds one particle; a *working pixel* is a pixel of the prepared micrograph,
which is scaled so that one box spans ``PrepareConfig.window`` of them.
"""

from deeppicker.config.device import DeviceConfig
from deeppicker.config.learning import LearnFirstConfig, SelfTrainConfig
from deeppicker.config.particles import (
    ClassifyConfig,
    CtfConfig,
    ExtractConfig,
    ImageConfig,
)
from deeppicker.config.picking import (
    CAUTION,
    DEFAULT_MODEL,
    LEAST_COVERAGE,
    STEPS,
    CleanConfig,
    DiameterConfig,
    PeaksConfig,
    PickConfig,
    PrepareConfig,
    ScoreConfig,
    SelectConfig,
)
from deeppicker.config.run import (
    ArrivalConfig,
    RunConfig,
    Subject,
)
from deeppicker.config.training import (
    EPOCH_STEPS,
    CropConfig,
    ExampleConfig,
    LearnConfig,
    TrainConfig,
    TrainSettings,
)
from deeppicker.config.work import (
    ClusterConfig,
    WorkConfig,
)

__all__ = [
    "CAUTION",
    "DEFAULT_MODEL",
    "EPOCH_STEPS",
    "LEAST_COVERAGE",
    "STEPS",
    "ArrivalConfig",
    "ClassifyConfig",
    "CleanConfig",
    "ClusterConfig",
    "CropConfig",
    "CtfConfig",
    "DeviceConfig",
    "DiameterConfig",
    "ExampleConfig",
    "ExtractConfig",
    "ImageConfig",
    "LearnConfig",
    "LearnFirstConfig",
    "PeaksConfig",
    "PickConfig",
    "PrepareConfig",
    "RunConfig",
    "ScoreConfig",
    "SelectConfig",
    "SelfTrainConfig",
    "Subject",
    "TrainConfig",
    "TrainSettings",
    "WorkConfig",
]
