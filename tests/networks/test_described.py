"""What a model file says of itself: all of it is checked when it is loaded, and what is wrong is named."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scenes
from deeppicker.config import PrepareConfig
from deeppicker.errors import DeepPickerError, FormatError
from deeppicker.networks.calibration import Calibration
from deeppicker.networks.model import load_model, new_model, save_model
from deeppicker.networks.tensor_file import load_tensors, save_tensors
from deeppicker.picking.pipeline import pick_micrograph
from scenes import DIAMETER

DESCRIPTIONS = [
    ("network", 3, "network is 3"),
    ("arguments", [1], r"arguments is \[1\]"),
    ("arguments.width", 10**9, "width is 1000000000, not a whole number from 1 to 1024"),
    ("arguments.depth", 2, "with which there is no dense network"),
    ("arguments.height", 2, "with which there is no dense network"),
    ("prepare", None, "prepare is None"),
    ("prepare.window", 36.5, "prepare: window is 36.5, not a whole number"),
    ("prepare.lowpass", "much", "prepare: lowpass is 'much'"),
    ("prepare.clip", -1.0, "prepare: clip -1 is out of range; choose 1 to 1e[+]06"),
    ("prepare.box_diameters", 99, "prepare: box_diameters 99 is out of range"),
    ("prepare.background", 10**400, "prepare: background is 10+, not a number"),
    ("prepare.window", 128, "prepare: window is 128, where the network has 36"),
    ("diameter", float("nan"), "diameter is nan, not a length from 1 to 100000 Å"),
    ("diameter", 1e-9, "diameter is 1e-09, not a length"),
    ("info", "from somewhere", "info is 'from somewhere'"),
    ("calibration.slope", float("inf"), "calibration: slope is inf"),
    ("calibration.slope", 1e6, "calibration: slope 1e[+]06 is out of range; choose -100 to 100"),
    ("calibration.offset", -101, "calibration: offset -101 is out of range"),
    ("calibration.presence_slope", "2", "calibration: presence_slope is '2', not a number"),
    ("calibration.presence_offset", [30], r"calibration: presence_offset is \[30\], not a number"),
    ("calibration.context", None, "calibration: context is None, not a number"),
    ("calibration.interaction", -1e300, "calibration: interaction is -1e[+]300, not a number"),
    ("calibration.gain", 1.0, "calibration holds gain, which this version does not know"),
    ("calibration.caution", True, "calibration: caution is True"),
    ("calibration.caution", 1.5, "calibration: caution 1.5 is out of range; choose 0 to 1"),
]


@pytest.mark.parametrize(("field", "value", "message"), DESCRIPTIONS)
def test_a_model_with_an_unusable_field_is_refused_and_the_field_named(
    tmp_path: Path, field: str, value: object, message: str
):
    path = tmp_path / "broken.safetensors"
    save_model(new_model(0, "dense"), path)
    description, weights = load_tensors(path, "deeppicker")
    name, _, part = field.partition(".")
    if part:
        description[name][part] = value
    else:
        description[name] = value
    save_tensors(path, "deeppicker", description, weights)
    with pytest.raises(FormatError, match=rf"broken\.safetensors is not a DeepPicker model .*{message}") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


NUMBERS = st.integers() | st.just(10**400) | st.floats() | st.floats(-120, 120)
VALUES = st.recursive(
    NUMBERS | st.none() | st.booleans() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
FIELDS = {
    "": ["network", "arguments", "prepare", "diameter", "info", "calibration", "unknown"],
    "arguments": ["width", "depth", "unknown"],
    "prepare": [*asdict(PrepareConfig()), "unknown"],
    "calibration": [*asdict(Calibration()), "unknown"],
}
SMALL = scenes.scene(0, number=3, shape=(80, 110)).micrograph
PLACES = st.sampled_from([(part, name) for part, names in FIELDS.items() for name in names])


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(PLACES, VALUES | NUMBERS), min_size=1, max_size=2))
def test_whatever_a_model_says_of_itself_it_is_refused_in_one_line_or_picks(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[tuple[str, str], object]]
):
    path = tmp_path_factory.getbasetemp() / "odd.safetensors"
    save_model(new_model(0, "dense"), path)
    description, weights = load_tensors(path, "deeppicker")
    for (part, name), value in changes:
        where = description[part] if part else description
        if isinstance(where, dict):
            where[name] = value
    save_tensors(path, "deeppicker", description, weights)
    message, scores = "", np.zeros(0)
    try:
        scores = pick_micrograph(SMALL, load_model(path), DIAMETER).scores
    except DeepPickerError as error:
        message = str(error)
    assert message.isprintable()
    assert message == "" or "odd.safetensors" in message or "check --diameter" in message or "no numbers" in message
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_single_bit_that_is_wrong_anywhere_in_a_model_is_noticed(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    save_model(new_model(0), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(8, 40), *rng.integers(0, len(whole), 60), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"m\.safetensors is not a DeepPicker model"):
            load_model(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_weights_that_are_no_numbers_and_negative_variances_are_refused(tmp_path: Path, value: float):
    model = new_model(0, "dense")
    weights = model.network.state_dict()
    name = next(name for name in weights if name.endswith("running_var"))
    weights[name][0] = value
    save_model(model, tmp_path / "m")
    with pytest.raises(FormatError, match=rf"weights: {name} holds (NaN or infinity|a negative variance)"):
        load_model(tmp_path / "m")


def test_weights_whose_scores_are_no_numbers_are_told(tmp_path: Path):
    model = new_model(0, "dense")
    for weight in model.network.state_dict().values():
        if weight.is_floating_point():
            weight.fill_(1e30)
    save_model(model, tmp_path / "m")
    with pytest.raises(FormatError, match="scores of the model are no numbers"):
        pick_micrograph(SMALL, load_model(tmp_path / "m"), DIAMETER)
