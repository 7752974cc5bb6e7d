"""How large the study is: a night on two cores, some minutes, or seconds for the tests."""

from __future__ import annotations

from dataclasses import dataclass

DEFOCUS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)
"""µm; the edges of the ranges from which micrographs come in equal numbers (the paper's Fig. 6)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the numbers of the report.

    Parameters
    ----------
    name : str
        Of the study, in the report.
    size : (int, int)
        Width and height of simulated micrographs in pixels.
    pixel_size : float
        Å.
    training, tested : int
        Simulated micrographs of each molecule to train on and to test on, for each of the five ranges of defocus.
    targets : tuple of str
        Molecules to pick, of `data.MOLECULES` and `data.REAL`.
    particles : int
        That a network is trained on, in equal parts from all molecules.
    few : tuple of int
        Particles of the target itself that the semi-automatic networks are trained on.
    versions : int
        Of each training micrograph, differently filtered and scaled.
    epochs : int or None
        Of the paper's network; None for its default.
    steps : int
        The fewest of a training: few particles are looked at in more epochs.
    rounds : int
        Most rounds of the iteration.
    learning_steps : int
        Of the default network's training in each round.
    backgrounds : int
        Micrographs without particles.
    classes, classified : int
        Class averages, and the most particles that are averaged.
    class_side : int
        Pixels of an average.
    relion_averages : (int, int) or None
        The most particles, and the classes, that RELION averages too, where it is installed: minutes for each target.
    compared : int
        Micrographs of each target for the comparison with other programs.
    install : bool
        Whether other programs are installed where that is possible.
    map_particles, map_side : int
        The most particles for the map, and the side of their images in pixels.
    map_iterations : (int, int)
        Of the 2D classification; of each of the three parts of the initial model.
    map_steps : int
        How many steps the way to the map has: 2 end with 2D classification, 3 with the initial model, 4 refine it.
    map_targets : tuple of str
        Molecules that go all the way to a map.
    """

    name: str
    size: tuple[int, int]
    pixel_size: float
    training: int
    tested: int
    targets: tuple[str, ...]
    particles: int
    few: tuple[int, ...]
    versions: int = 4
    epochs: int | None = None
    steps: int = 0
    rounds: int = 3
    learning_steps: int = 30
    backgrounds: int
    classes: int
    classified: int
    class_side: int = 64
    relion_averages: tuple[int, int] | None = None
    compared: int
    install: bool = False
    map_particles: int
    map_side: int
    map_iterations: tuple[int, int]
    map_steps: int = 4
    map_targets: tuple[str, ...]

    @property
    def taught(self) -> tuple[object, ...]:
        """What the networks and picks depend on, besides what they are taught."""
        return self.size, self.pixel_size, self.training, self.tested, self.versions, self.epochs, self.steps


SIMULATED = ("gamma-secretase", "spliceosome", "trpv1")

FULL = Settings(
    name="full",
    size=(3838, 3710),
    pixel_size=1.2156,
    training=6,
    tested=3,
    targets=(*SIMULATED, "trpv1-10059", "apoferritin-10146", "ribosome-10028"),
    particles=10_000,
    few=(400, 1_000, 10_000),
    steps=1_500,
    backgrounds=26,
    classes=30,
    classified=3_000,
    relion_averages=(600, 8),
    compared=10,
    install=True,
    map_particles=2_000,
    map_side=64,
    map_iterations=(25, 50),
    map_targets=("gamma-secretase", "apoferritin-10146"),
)
QUICK = Settings(
    name="quick",
    size=(480, 448),
    pixel_size=4.8624,
    training=1,
    tested=1,
    targets=SIMULATED,
    particles=400,
    few=(100, 200, 400),
    versions=2,
    epochs=6,
    steps=75,
    learning_steps=8,
    backgrounds=5,
    classes=6,
    classified=240,
    class_side=32,
    compared=2,
    map_particles=200,
    map_side=32,
    map_iterations=(5, 5),
    map_steps=2,
    map_targets=("gamma-secretase",),
)
TOY = Settings(
    name="toy",
    size=(320, 288),
    pixel_size=4.8624,
    training=1,
    tested=1,
    targets=("trpv1",),
    particles=120,
    few=(40, 120),
    versions=1,
    epochs=4,
    rounds=1,
    learning_steps=2,
    backgrounds=2,
    classes=3,
    classified=60,
    class_side=32,
    compared=1,
    map_particles=50,
    map_side=32,
    map_iterations=(2, 2),
    map_steps=2,
    map_targets=(),
)
