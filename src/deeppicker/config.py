"""Every setting and its default, with its unit, meaning and source. The command line is generated from these.

"Section" refers to Wang et al. (2016), "DeepPicker: a deep learning approach for fully automated particle picking
in cryo-EM". A *box* is the square window that holds one particle; a *working pixel* is a pixel of the prepared
micrograph, which is scaled so that one box spans ``PrepareConfig.window`` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from deeppicker.errors import InputError

DEFAULT_MODEL = "general"
"""The model in the package that is used unless another is named."""

STEPS = (1, 2, 4, 8, 16)
"""Distances of scored positions: the network pools by 16 in all, and powers of two up to that are subsets."""


def _within(config: object, **limits: tuple[int | float, int | float]) -> None:
    """Check that fields lie within limits, both inclusive; NaN does not."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            option = name.replace("_", "-")
            upper = "or more" if high == math.inf else f"to {high:g}"
            raise InputError(f"--{option} {value:g} is out of range; choose {low:g} {upper}")


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How a micrograph is brought to a network's working scale. Stored in every model file."""

    box_diameters: float = 1.5
    """Side of the box in particle diameters. The window is "slightly larger than the particle" (Section 2.1)."""

    window: int = 64
    """Side of the network's input in working pixels (Section 4.3)."""

    lowpass: float = 0.1
    """Standard deviation of the Gaussian low-pass filter in working pixels (Section 4.5)."""

    background: float = 1.0
    """Standard deviation, in boxes, of the Gaussian neighbourhood whose mean is subtracted and by whose standard
    deviation the image is divided. Our choice: flattens ice gradients but keeps particles."""

    clip: float = 6.0
    """Pixels further than this many robust standard deviations from the median (hot and dead pixels, X-rays) are
    moved to that distance, before resampling and again after normalising. Our choice."""

    def __post_init__(self) -> None:
        _within(
            self, box_diameters=(0.5, 10), window=(8, 4096), lowpass=(0, 100), background=(0.01, 100), clip=(1, 1e6)
        )

    @property
    def diameter_pixels(self) -> float:
        """The particle diameter in working pixels."""
        return self.window / self.box_diameters


PREPARATIONS = {"paper": PrepareConfig(), "dense": PrepareConfig(window=36, lowpass=0.0, background=1.5)}
"""Preparation by kind of network. The dense one sees particles 24 pixels across, so nothing finer than a twelfth of the
diameter: that is the same for all micrographs, whatever their pixel size and filters, and it is fast."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How the network is swept over a prepared micrograph."""

    step: int | None = None
    """Distance of neighbouring scored positions in working pixels, a power of two up to 16. Default: that of the
    network; 4 for the paper's (Section 4.5), 2 for the dense one, which has no finer one."""

    tile: int | None = None
    """Side of the tiles that are scored one after the other, in working pixels; bounds memory. Default: that of the
    network."""

    def __post_init__(self) -> None:
        if self.tile is not None:
            _within(self, tile=(1, 1_000_000))
        if self.step is not None and self.step not in STEPS:
            raise InputError(f"--step {self.step} cannot be scored; choose one of {', '.join(map(str, STEPS))}")


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """Removal of implausibly large regions of high score: ice, carbon, aggregates."""

    connect_threshold: float = 0.5
    """Neighbouring positions whose scores both exceed this are connected (Section 4.5)."""

    max_region: float = 4.0
    """Connected regions larger than this many times the average are removed (Section 4.5). A region of touching
    particles counts as one for each of its peaks."""

    def __post_init__(self) -> None:
        _within(self, connect_threshold=(1e-6, 1 - 1e-6), max_region=(0, math.inf))


@dataclass(frozen=True, kw_only=True)
class PeaksConfig:
    """Choice of particle centres from the score map."""

    peak_window: float | None = None
    """Side of the window in which a pick has the highest score, in boxes; the minimum distance of two picks is
    half of it. Default: that of the network; 0.8 for the paper's (Section 4.5), 0.6 for the dense one, whose peaks
    are sharp enough to tell close neighbours."""

    floor: float = 0.01
    """Candidates below this score are dropped; those between it and the threshold go to the side file."""

    extreme_sigmas: float = 3.0
    """Pixels further than this many standard deviations from the micrograph's mean are extreme (Section 4.5)."""

    max_extreme: float = 0.1
    """A candidate is dropped if the fraction of extreme pixels in its window exceeds that of the typical candidate by
    more than this. The paper gives no number; no reference particle of the three development data sets has more than
    0.05, and hardly a window on an ice crystal less than 0.4."""

    edge: float = 0.5
    """Picks closer than this to the micrograph's edge are dropped, in particle diameters. Our choice: a particle
    that is cut by the edge cannot be used."""

    def __post_init__(self) -> None:
        if self.peak_window is not None:
            _within(self, peak_window=(0.01, 10))
        _within(self, floor=(0, 1), extreme_sigmas=(0, math.inf), max_extreme=(0, 1))
        _within(self, edge=(0, 100))


@dataclass(frozen=True, kw_only=True)
class PickConfig:
    """The steps from a prepared micrograph to candidates, in order."""

    score: ScoreConfig = ScoreConfig()

    smooth: float = 1 / 16
    """Standard deviation, in boxes, of the Gaussian that smooths the score map before regions and peaks are sought in
    it. Our choice: all windows near a centre score high, so their mean shows the centre better than the best of them.
    The score of a pick is not smoothed."""

    clean: CleanConfig = CleanConfig()
    peaks: PeaksConfig = PeaksConfig()

    def __post_init__(self) -> None:
        _within(self, smooth=(0, 10))


LEAST_COVERAGE = 0.01
"""Fraction of the area that particles must seem to cover for their diameter to be believed."""


@dataclass(frozen=True, kw_only=True)
class DiameterConfig:
    """How the particle diameter is estimated where none is given. All choices are ours."""

    search: tuple[float, float] = (50.0, 700.0)
    """Å; least and largest diameter that is looked for."""

    looked_at: int = 8
    """Number of micrographs that are looked at, evenly spread over those that are given."""

    factor: float = 1.3
    """Ratio of two successive diameters that are assumed in turn."""

    side: int = 448
    """Working pixels of a micrograph's middle that are looked at, along each side."""

    least_pixels: float = 8.0
    """Particles smaller than this many pixels of the micrograph are not looked for."""

    trust: float = 20.0
    """By how much the mean log-probability of a place is multiplied; places and micrographs are not independent."""

    def __post_init__(self) -> None:
        _within(self, looked_at=(1, 10_000), factor=(1.01, 4), side=(128, 8192), least_pixels=(4, 1000), trust=(0, 1e6))
        if not 0 < self.search[0] < self.search[1] < math.inf:
            raise InputError(
                f"--search {self.search[0]:g} {self.search[1]:g} is no range of diameters; give the lower first"
            )


@dataclass(frozen=True, kw_only=True)
class ExampleConfig:
    """How labelled windows are drawn from micrographs with known particles."""

    num_particles: int = 10_000
    """Positive windows in all, shared equally among the data sets; as many negatives are added (Section 4.3)."""

    negative_distance: float = 0.6
    """Least distance of a negative window's centre from every particle, in boxes (Section 4.3)."""

    noise: float = 0.15
    """Fraction of the negatives that come from noise with the spectrum of the micrographs. Our choice: a network
    that only ever saw crowded micrographs finds particles in an empty one."""

    validation: float = 1 / 9
    """Size of the validation part in relation to the training part, split by micrograph (Section 4.3)."""

    max_lowpass: float = 2.7
    """Each training micrograph is also low-passed with random strengths up to this standard deviation, in working
    pixels, because published micrographs differ in how they were filtered."""

    scale_jitter: float = 0.1
    """Each training micrograph is also enlarged or reduced by up to this fraction, because a particle's diameter is
    never known exactly."""

    versions: int = 4
    """Number of such random filterings and scalings of each training micrograph."""

    def __post_init__(self) -> None:
        _within(self, num_particles=(1, math.inf), negative_distance=(0, 100), noise=(0, 1), validation=(1e-6, 1))
        _within(self, max_lowpass=(0, 100), scale_jitter=(0, 0.9), versions=(1, 1000))


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How training images of the dense network are drawn. All choices are ours."""

    crop: int = 224
    """Side of a crop in working pixels, a multiple of 16."""

    target_sigma: float = 0.1
    """Standard deviation, in particle diameters, of the peaks that the network should draw at the centres."""

    on_particles: float = 0.8
    """Fraction of the crops that are laid on a particle; the others lie anywhere."""

    size_jitter: float = 0.25
    """The diameter that picking assumes is wrong by up to this fraction."""

    wide: float = 0.25
    """Fraction of the crops whose diameter is assumed wrong by up to ``wide_factor``; from them the network learns to
    tell sizes, not to find centres."""

    wide_factor: float = 3.5
    """Largest factor by which the diameter is wrong in these."""

    blurred: float = 0.4
    """Fraction of the crops that are low-passed ..."""

    max_blur: float = 2.0
    """... by up to this standard deviation in working pixels."""

    noisy: float = 0.3
    """Fraction of the crops that get white noise ..."""

    max_noise: float = 1.0
    """... of up to this many times their own deviation."""

    graded: float = 0.3
    """Fraction of the crops whose grey values are bent."""

    real: float = 0.3
    """Fraction of the crops that come from real micrographs, where simulated ones are given too."""

    empty_crops: float = 0.15
    """Fraction of the crops that come from micrographs known to hold no particle, where there are such."""

    noise_crops: float = 0.1
    """Fraction of the crops that are noise with a spectrum between white and that of the crop, without particles."""

    doubt: float = 0.5
    """Labels of real micrographs are never complete. What the model that training starts from scores higher than this,
    but carries no label, is taken for unknown; a new model has no such opinion."""

    def __post_init__(self) -> None:
        _within(self, crop=(64, 4096), target_sigma=(0.01, 1), size_jitter=(0, 0.9), wide=(0, 1), wide_factor=(1, 10))
        _within(self, on_particles=(0, 1), blurred=(0, 1), noisy=(0, 1), graded=(0, 1), real=(0, 1), doubt=(0, 1))
        _within(self, empty_crops=(0, 1), noise_crops=(0, 1))
        _within(self, max_blur=(0, 100), max_noise=(0, 100))
        if self.crop % 16:
            raise InputError(f"--crop {self.crop} is no multiple of 16; choose one such as 224")


TRAIN_DEFAULTS = {
    "paper": {"epochs": 15, "batch_size": 64, "learning_rate": 0.01, "weight_decay": 5e-4},
    "dense": {"epochs": 40, "batch_size": 8, "learning_rate": 1.5e-3, "weight_decay": 0.01},
}
"""Settings of training by kind of network, where none are given."""

EPOCH_STEPS = 100
"""Steps of an epoch of the dense network, whose crops are drawn at random without end."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Stochastic gradient descent with momentum (Section 4.3), or AdamW for the dense network."""

    epochs: int | None = None
    """Passes over the training windows; 15 for the paper's network, 40 of 100 steps each for the dense one."""

    batch_size: int | None = None
    """Windows or crops per step; 64 for the paper's network, 8 for the dense one."""

    learning_rate: float | None = None
    """Learning rate at the start; it falls to zero along a half cosine. 0.01 for the paper's network (Section 4.5),
    0.0015 for the dense one, after a short rise."""

    momentum: float = 0.9
    """Momentum of the gradient descent; the dense network's optimizer has its own."""

    weight_decay: float | None = None
    """Penalty on the weights; 0.0005 for the paper's network, 0.01 for the dense one."""

    seed: int = 0
    """Seed of every random choice: the same seed and data give the same model."""

    def __post_init__(self) -> None:
        limits = {"epochs": (1, 1_000_000), "batch_size": (1, 1_000_000), "learning_rate": (1e-12, 10)}
        for name, (low, high) in {**limits, "weight_decay": (0, 1)}.items():
            if getattr(self, name) is not None:
                _within(self, **{name: (low, high)})
        _within(self, momentum=(0, 0.9999), seed=(0, 2**31))

    def resolved(self, kind: str) -> TrainSettings:
        """Return all settings for a kind of network."""
        given = {name: getattr(self, name) for name in TRAIN_DEFAULTS[kind]}
        chosen = {
            name: default if given[name] is None else given[name] for name, default in TRAIN_DEFAULTS[kind].items()
        }
        return TrainSettings(
            epochs=int(chosen["epochs"]),
            batch_size=int(chosen["batch_size"]),
            learning_rate=float(chosen["learning_rate"]),
            weight_decay=float(chosen["weight_decay"]),
            momentum=self.momentum,
            seed=self.seed,
        )


class TrainSettings(NamedTuple):
    """The fields of `TrainConfig` with a value for each."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    seed: int


ADAPT_EPOCHS = {"paper": 10, "dense": 5}
"""Epochs when a trained model is adapted, by kind of network: fewer than for a new one."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Which candidates become picks (Section 2.1, sorting). Can be changed without scoring again."""

    threshold: float | None = None
    """Picks are the candidates with at least this score, 0-1. Default: chosen for the data set from its scores, so that
    the expected F1 is highest."""

    num_particles: int | None = None
    """Keep only so many picks with the highest scores, over all micrographs of the run."""

    def __post_init__(self) -> None:
        if self.threshold is not None:
            _within(self, threshold=(0, 1))
        if self.num_particles is not None:
            _within(self, num_particles=(1, math.inf))


@dataclass(frozen=True, kw_only=True)
class WorkConfig:
    """Who does the work, and what becomes of what fails. The result does not depend on it."""

    workers: int | None = None
    """Processes on this machine (or of a local cluster). Default: one for each core, if there is memory for them. 0: no
    other process, and no time limit."""

    time_limit: float | int = 600
    """Seconds after which a micrograph is given up, for example because the file system hangs."""

    retries: int = 2
    """How often a micrograph that cannot be read or written, whose worker is lost or whose time is up is tried again,
    after all others."""

    def __post_init__(self) -> None:
        if self.workers is not None:
            _within(self, workers=(0, 4096))
        _within(self, time_limit=(0.001, math.inf), retries=(0, 100))


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Work on several machines, by Dask (needs ``pip install deeppicker[cluster]``). All must see the same files."""

    cluster: str | None = None
    """``local``: a Dask cluster on this machine; ``tcp://HOST:PORT``: one that runs already; ``slurm``: workers are
    started as SLURM jobs, as many as there is work for. Default: no cluster."""

    jobs: int = 10
    """Largest number of SLURM jobs at a time."""

    job_cores: int = 4
    """Cores of a SLURM job; it runs one worker on each."""

    job_memory: str = "8GB"
    """Memory of a SLURM job; 2 GB a core are enough for all cameras."""

    job_time: str = "02:00:00"
    """Wall time of a SLURM job, ``HH:MM:SS``; when it is over, another job takes its place."""

    partition: str | None = None
    """SLURM partition; default: that of your site, or of Dask's configuration file ``jobqueue.yaml``."""

    account: str | None = None
    """SLURM account."""

    job_option: tuple[str, ...] = ()
    """More lines for ``#SBATCH``, such as ``--qos=normal``."""

    job_setup: tuple[str, ...] = ()
    """Shell commands that a job runs first, such as ``module load python``."""

    interface: str | None = None
    """Network interface by which the jobs reach this machine, such as ``ib0``; default: the usual one."""

    def __post_init__(self) -> None:
        _within(self, jobs=(1, 100_000), job_cores=(1, 4096))
        kinds = self.cluster in (None, "local", "slurm") or "://" in self.cluster
        if not kinds:
            raise InputError(
                f"--cluster {self.cluster} is none; choose local, slurm or an address such as tcp://HOST:8786"
            )


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """How the images of particles are made, in RELION's words and with its arithmetic."""

    box_size: int
    """Side of the windows in pixels of the micrograph, even."""

    scale: int | None = None
    """Side of the images in pixels, even, to which the windows are scaled down by Fourier cropping. Default: as
    they are."""

    normalise: bool = True
    """Subtract a plane fitted to the background, and divide by the background's standard deviation."""

    background_radius: int | None = None
    """Radius in pixels of the images; what lies outside this circle is background. Default: 3/8 of their side, as in
    RELION's window."""

    invert_contrast: bool = False
    """Make dark particles bright, as RELION and most other programs want them."""

    def __post_init__(self) -> None:
        _within(self, box_size=(2, 65536))
        if self.scale is not None:
            _within(self, scale=(2, self.box_size))
        for name in ("box_size", "scale"):
            if (getattr(self, name) or 0) % 2:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {getattr(self, name)} is odd; choose an even number of pixels")
        if self.background_radius is not None:
            _within(self, background_radius=(1, self.side // 2))

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.box_size if self.scale is None else self.scale

    @property
    def radius(self) -> int:
        """Radius in pixels outside of which an image is background."""
        return 3 * self.side // 8 if self.background_radius is None else self.background_radius


@dataclass(frozen=True, kw_only=True)
class CtfConfig:
    """How the defocus of a micrograph is searched."""

    defocus: tuple[float, float] = (0.3, 5.0)
    """Least and largest mean underfocus in µm."""

    step: float = 0.01
    """Distance in µm of the values that are tried first."""

    lowest: float = 30.0
    """Å; coarser rings are not used, as particles and ice shape the spectrum there. As in CTFFIND4."""

    highest: float = 4.0
    """Å; finer rings are not used. Large pixels end them earlier."""

    def __post_init__(self) -> None:
        low, high = self.defocus
        if not 0.05 <= low < high <= 20:
            raise InputError(f"--defocus {low:g} {high:g} is no range of underfocus in µm; choose 0.05 to 20")
        _within(self, step=(0.001, 1), lowest=(5, 1000), highest=(1, 50))


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """How particles are aligned and averaged in classes."""

    classes: int = 50
    """Number of classes."""

    side: int = 64
    """Side of a window in pixels; it spans 1.5 particle diameters."""

    iterations: int = 20
    """Iterations of expectation-maximisation."""

    rotations: int = 36
    """Rotations that are compared."""

    shift: float = 0.1
    """Largest shift that is compared, in particle diameters."""

    shift_step: float = 0.047
    """Distance of neighbouring shifts, in particle diameters; two pixels of a window of 64."""

    rings: int = 12
    """Highest frequency of the expectation-maximisation, in 1/window: 12 is an eighth of the diameter."""

    learn_from: int = 10_000
    """Particles, drawn anew each time, of which an iteration makes the averages; all take part in the last two."""

    least: float = 0.5
    """Quality, 0-1, below which a class is junk."""

    seed: int = 0
    """Seed of every random choice; the same seed gives the same classes on the same computer."""

    def __post_init__(self) -> None:
        _within(
            self,
            classes=(1, 1000),
            side=(32, 256),
            iterations=(1, 1000),
            rotations=(4, 360),
            shift=(0, 0.5),
            shift_step=(0.005, 0.5),
            least=(0, 1),
            learn_from=(1, 10_000_000),
            seed=(0, 2**31),
        )
        if not 2 <= self.rings < self.side // 2 - 1:
            raise InputError(f"--rings {self.rings} is out of range; choose 2 to {self.side // 2 - 2}")
