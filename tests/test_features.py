"""The VGG16 behind the perceptual terms: layers, weights, conventions."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from models.errors import MissingFeatures
from models.features import CONVENTION, VGG16, load_vgg16
from tiny_training import write_vgg16


def torchvisions(depth: int) -> nn.Sequential:
    """The first `depth` layers of torchvision's VGG16."""
    return make_layers(cfgs["D"])[:depth].eval()


def test_layers_are_torchvisions():
    """A layer's name means the same activation as in torchvision's network."""
    reference = torchvisions(9)
    ours = VGG16(("conv1_1", "relu1_2", "pool1", "relu2_2"))
    ours.load_state_dict(reference.state_dict(prefix="features."))
    picture = torch.rand(2, 3, 16, 24) * 2 - 1
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(
        2, 1, 3, 1, 1
    )
    x = ((picture + 1) / 2 - mean) / deviation
    activations = ours(picture)
    for name, end in (("conv1_1", 1), ("relu1_2", 4), ("pool1", 5), ("relu2_2", 9)):
        torch.testing.assert_close(activations[name], reference[:end](x))


def test_depth_follows_the_layers():
    """Nothing past the deepest layer asked for is built, and a call can ask for fewer."""
    network = VGG16(("relu2_2", "relu1_2"))
    assert len(network.features) == 9
    assert set(network(torch.zeros(1, 3, 8, 8))) == {"relu1_2", "relu2_2"}
    assert set(network(torch.zeros(1, 3, 8, 8), ("relu1_2",))) == {"relu1_2"}


def test_frozen():
    """Gradients reach the picture and never the weights."""
    network = VGG16(("relu1_1",))
    picture = torch.rand(1, 3, 8, 8, requires_grad=True)
    network(picture)["relu1_1"].sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.parameters())


def test_unknown_layer():
    """A layer that VGG16 does not have is named."""
    with pytest.raises(ValueError, match="relu9_9"):
        VGG16(("relu9_9",))


def test_weights_from_a_file(tmp_path: Path):
    """Weights come from the safetensors file named, whatever its precision."""
    path = write_vgg16(tmp_path / "vgg16.safetensors")
    half = {key: value.half() for key, value in load_file(path).items()}
    save_file(half, path)
    loaded = load_vgg16(("relu1_2",), path)
    assert loaded.features[0].weight.dtype == torch.float32
    torch.testing.assert_close(loaded.features[0].weight, half["features.0.weight"].float())


def test_unusable_files(tmp_path: Path):
    """A file that is absent, damaged, too shallow or of other shapes is MissingFeatures."""
    shallow = write_vgg16(tmp_path / "shallow.safetensors", "relu1_1")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(shallow.read_bytes()[:-9])
    narrow = tmp_path / "narrow.safetensors"
    save_file(load_file(shallow) | {"features.0.bias": torch.zeros(3)}, narrow)
    for path in (tmp_path / "absent.safetensors", damaged, shallow):
        with pytest.raises(MissingFeatures, match=path.name):
            load_vgg16(("relu1_2",), path)
    with pytest.raises(MissingFeatures, match=r"features\.0\.bias"):
        load_vgg16(("relu1_1",), narrow)


def test_no_connection(monkeypatch: pytest.MonkeyPatch):
    """Without a file and without a connection the error says where to name one."""

    def offline(*_args: object, **_options: object) -> None:
        raise URLError("offline")

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", offline)
    with pytest.raises(MissingFeatures, match="ANAMORPH_VGG16"):
        load_vgg16(("relu1_1",))


def test_downloaded_weights_see_the_original_input(monkeypatch: pytest.MonkeyPatch):
    """Torchvision's download, made for 0..255 less the mean colour, answers as it does there."""
    reference = torchvisions(1)
    state = reference.state_dict(prefix="features.")
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda *_args, **_options: state)
    rgb = torch.randint(256, (1, 3, 8, 8)).float()
    colour = torch.tensor([123.0, 117.0, 104.0]).view(1, 3, 1, 1)
    answer = load_vgg16(("conv1_1",))(rgb / 127.5 - 1)["conv1_1"]
    inside = (..., slice(1, -1), slice(1, -1))  # the border sees the padding, which is not rescaled
    torch.testing.assert_close(
        answer[inside], reference(rgb - colour)[inside], atol=1e-3, rtol=1e-4
    )


def test_shared_weights(shared: Path):
    """The trained weights answer as in torchvision's network, on the original release's scale."""
    path = shared / "weights" / "vgg16_features_fp16.safetensors"
    reference = torchvisions(16)
    state = {key.removeprefix("features."): value.float() for key, value in load_file(path).items()}
    reference.load_state_dict({key: state[key] for key in reference.state_dict()})
    side = torch.linspace(0, 1, 32)
    picture = torch.stack((*torch.meshgrid(side, side, indexing="ij"), side.expand(32, 32)))[None]
    answer = load_vgg16(("relu3_3",), path)(picture * 2 - 1)["relu3_3"]
    expected = reference(
        VGG16_Weights.IMAGENET1K_V1.transforms(crop_size=32, resize_size=32)(picture)
    )
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=0.1)
    assert 100 < answer.mean() < 1000


def test_convention():
    """What a perceptual loss depends on besides its layers is recorded with the model."""
    assert CONVENTION.keys() == {"network", "release", "input", "gram_normaliser"}
