"""The network of the paper, and model files."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from deeppicker.config import PrepareConfig
from deeppicker.errors import FormatError, InputError, OutputError
from deeppicker.networks.model import Model, load_model, new_network, save_model, shipped_models
from deeppicker.networks.paper import PaperNetwork


def windows(number: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, 64, 64, generator=torch.Generator().manual_seed(seed))


def weights_of(network) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def test_the_network_has_the_shapes_of_the_paper():
    shapes = {name: tuple(value.shape) for name, value in PaperNetwork().named_parameters() if "weight" in name}
    assert shapes == {
        "convolutions.0.weight": (8, 1, 9, 9),
        "convolutions.1.weight": (16, 8, 5, 5),
        "convolutions.2.weight": (32, 16, 3, 3),
        "convolutions.3.weight": (64, 32, 2, 2),
        "hidden.weight": (128, 256),
        "output.weight": (2, 128),
    }
    assert sum(value.numel() for value in PaperNetwork().parameters()) == 49_922


def test_every_layer_is_followed_by_relu_and_pooling_as_in_the_paper():
    network = new_network(3)
    network.train(False)
    features = windows(2)[:, None]
    with torch.inference_mode():
        for layer in network.convolutions:
            features = torch.nn.functional.max_pool2d(torch.relu(layer(features)), 2)
        assert features.shape == (2, 64, 2, 2)
        expected = network.output(torch.relu(network.hidden(features.flatten(1))))
        assert network(windows(2)).numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_the_softmax_for_a_particle_is_the_logistic_of_the_log_odds():
    network = new_network(1)
    network.train(False)
    with torch.inference_mode():
        probability = network(windows(7)).softmax(1)[:, 1]
        assert torch.sigmoid(network.windows(windows(7))).numpy() == pytest.approx(probability.numpy(), abs=1e-6)


def test_dropout_acts_in_training_only():
    network = new_network(1)
    network.train(False)
    assert (network.windows(windows(5)) == network.windows(windows(5))).all()
    network.train(True)
    assert (network.windows(windows(5)) != network.windows(windows(5))).any()


def test_new_weights_depend_on_the_seed_only():
    first = weights_of(new_network(4))
    torch.manual_seed(12)
    before = torch.random.get_rng_state()
    again, other = weights_of(new_network(4)), weights_of(new_network(5))
    assert (torch.random.get_rng_state() == before).all()
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_a_copied_network_is_independent():
    network = new_network(0)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied.output.bias += 1
    assert (copied.output.bias != network.output.bias).all()


@pytest.fixture
def model() -> Model:
    network = new_network(8)
    network.train(False)
    info = {"datasets": [{"name": "β-galactosidase", "particles": 12}], "seed": 3, "none": None}
    return Model(network, PrepareConfig(lowpass=0.7, clip=5.0), 171.5, info)


def test_a_saved_model_comes_back_as_it_was(tmp_path: Path, model: Model):
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert replace(loaded, network=model.network) == model
    assert weights_of(loaded.network).keys() == weights_of(model.network).keys()
    for name, value in weights_of(model.network).items():
        assert (weights_of(loaded.network)[name] == value).all()
    assert (loaded.network.windows(windows(3)) == model.network.windows(windows(3))).all()  # dropout is off


def test_a_model_without_a_molecule_has_no_diameter(tmp_path: Path, model: Model):
    save_model(replace(model, diameter=None, info={}), tmp_path / "m")
    assert load_model(str(tmp_path / "m")).diameter is None


def test_saving_twice_gives_the_same_bytes(tmp_path: Path, model: Model):
    save_model(model, tmp_path / "a")
    save_model(load_model(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_model_file_holds_no_pickle(tmp_path: Path, model: Model):
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert path.read_bytes()[8:9] == b"{"  # safetensors: the length of a JSON header, the header, raw numbers
    assert path.stat().st_size == 8 + length + 4 * 49_922
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == set(weights_of(model.network))


def save_broken(path: Path, model: Model, kind: str) -> None:
    save_model(model, path)
    whole = path.read_bytes()
    weights = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in model.network.state_dict().items()
    }
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "cut in the header":
            path.write_bytes(whole[:100])
        case "cut in the weights":
            path.write_bytes(whole[:-1000])
        case "too long":
            path.write_bytes(whole + b"more")
        case "text":
            path.write_text("this is not a model\n" * 100, encoding="utf-8")
        case "pickle":
            torch.save(weights, path)
        case "safetensors of another program":
            save_file(weights, path)
        case "damaged description":
            save_file(weights, path, metadata={"deeppicker": "{"})
        case "description of another kind":
            save_file(weights, path, metadata={"deeppicker": "[1, 2]"})
        case "unknown network":
            path.write_bytes(whole.replace(rb"\"network\": \"paper\"", rb"\"network\": \"other\""))
        case "unknown preparation":
            path.write_bytes(whole.replace(rb"\"lowpass\"", rb"\"lowpast\""))
        case "missing weights":
            weights.pop("output.bias")
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
            save_file(weights, path, metadata=metadata)
        case "weights of other shapes":
            weights["output.bias"] = torch.zeros(3)
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
            save_file(weights, path, metadata=metadata)
    assert path.read_bytes() != whole


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "cut in the header",
        "cut in the weights",
        "too long",
        "text",
        "pickle",
        "safetensors of another program",
        "damaged description",
        "description of another kind",
        "unknown network",
        "unknown preparation",
        "missing weights",
        "weights of other shapes",
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path: Path, model: Model, kind: str):
    path = tmp_path / "broken.safetensors"
    save_broken(path, model, kind)
    with pytest.raises(FormatError, match=r"broken.safetensors is not a DeepPicker model") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["unheard-of", "folder/none.safetensors", ""])
def test_an_unknown_model_is_refused_and_what_there_is_is_listed(name: str):
    with pytest.raises(InputError, match="--model") as caught:
        load_model(name)
    assert repr(name) in str(caught.value)
    assert all(shipped in str(caught.value) for shipped in shipped_models())
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_model(tmp_path: Path):
    with pytest.raises(InputError, match="no model"):
        load_model(tmp_path)


def test_a_model_that_cannot_be_written_is_an_output_error(tmp_path: Path, model: Model):
    with pytest.raises(OutputError, match="missing"):
        save_model(model, tmp_path / "missing" / "model.safetensors")


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_every_model_in_the_package_can_be_loaded_by_name(name: str):
    model = load_model(name)
    weights = {"general": 576_434, "general-small": 257_322, "deeppicker2016": 49_922}
    assert sum(value.numel() for value in model.network.parameters()) == weights[name]
    assert model.prepare.window == model.network.window
