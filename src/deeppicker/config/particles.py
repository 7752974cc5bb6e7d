"""Settings for picked particles: stacks, class averages, contrast transfer."""

from __future__ import annotations

from dataclasses import dataclass

from deeppicker.config.limits import within
from deeppicker.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Making of particle images from windows, in RELION's terms and with its arithmetic."""

    scale: int | None = None
    """Side of the images in pixels, even, to which the windows are scaled down by Fourier cropping. Default: not
    scaled."""

    normalise: bool = True
    """Whether a plane fitted to the background is subtracted, and the rest divided by the background's standard
    deviation."""

    background_radius: int | None = None
    """Radius in pixels of the images; outside this circle is background. Default: 3/8 of their side, as in RELION's
    window."""

    invert_contrast: bool = False
    """Make dark particles bright, as RELION and most other programs expect."""


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Windows of one size, and what becomes of them."""

    box_size: int
    """Side of the windows in pixels of the micrograph, even."""

    image: ImageConfig = ImageConfig()

    def __post_init__(self) -> None:
        within(self, box_size=(2, 65536))
        within(self.image, scale=(2, self.box_size))
        for name, value in (("box-size", self.box_size), ("scale", self.image.scale or 0)):
            if value % 2:
                raise InputError(f"--{name} {value} is odd; choose an even number of pixels")
        within(self.image, background_radius=(1, self.side // 2))

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.box_size if self.image.scale is None else self.image.scale

    @property
    def radius(self) -> int:
        """Radius in pixels outside of which an image is background."""
        given = self.image.background_radius
        return 3 * self.side // 8 if given is None else given


@dataclass(frozen=True, kw_only=True)
class CtfConfig:
    """Search for the defocus of a micrograph."""

    defocus: tuple[float, float] = (0.3, 5.0)
    """Smallest and largest mean underfocus in µm."""

    step: float = 0.01
    """Step in µm of the first search."""

    lowest: float = 30.0
    """Å; coarser rings are ignored, because particles and ice shape the spectrum there. As in CTFFIND4."""

    highest: float = 4.0
    """Å; finer rings are ignored. Large pixels set a coarser limit."""

    def __post_init__(self) -> None:
        low, high = self.defocus
        if not 0.05 <= low < high <= 20:
            raise InputError(f"--defocus {low:g} {high:g} is not a range of underfocus in µm; choose 0.05 to 20")
        within(self, step=(0.001, 1), lowest=(5, 1000), highest=(1, 50))


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """Alignment and averaging of particles in classes."""

    classes: int | None = None
    """Number of classes; default: one for each 40 picks, from 2 to 50."""

    sample: int = 5000
    """Most picks to classify, from some of the micrographs, drawn at random; 0 takes all, and so does --reject."""

    side: int = 64
    """Side of a window in pixels; it spans 1.5 particle diameters."""

    iterations: int = 20
    """Iterations of expectation-maximisation."""

    rotations: int | None = None
    """Number of rotations to compare; default: three for each ring."""

    shift: float = 0.1
    """Largest shift to compare, in particle diameters."""

    shift_step: float | None = None
    """Step between shifts, in particle diameters; default: 0.56, divided by the number of rings."""

    rings: int | None = None
    """Highest frequency of the expectation-maximisation, in 1/window; default: 12, an eighth of the diameter, for 5,000
    picks, up to 18 for fewer."""

    learn_from: int = 10_000
    """Particles per iteration, drawn anew each time; the last two iterations use all."""

    least: float = 0.5
    """Quality, 0-1, below which a class is junk."""

    seed: int = 0
    """Seed of every random choice; the same seed gives the same classes on the same computer."""

    def __post_init__(self) -> None:
        within(
            self,
            classes=(1, 1000),
            side=(32, 256),
            iterations=(1, 1000),
            rotations=(4, 360),
            shift=(0, 0.5),
            shift_step=(0.005, 0.5),
            least=(0, 1),
            sample=(0, 10_000_000),
            learn_from=(1, 10_000_000),
            seed=(0, 2**31),
        )
        within(self, rings=(2, self.side // 2 - 2))
