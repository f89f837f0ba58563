"""Our networks give the answers of the projects whose checkpoints they load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.blocks import Norm, PatchGAN
from models.checkpoint import Header, load_generator, save_generator
from models.families import family
from models.importers import import_foreign
from models.layouts import import_state

GOLDENS = Path(__file__).parent / "goldens"
FOREIGN = sorted((GOLDENS / "foreign").glob("*.safetensors"))
FORMAT1: dict[str, dict[str, Any]] = {
    "pix2pix": {"base_channels": 1, "depth": 5},
    "cyclegan": {"base_channels": 2, "blocks": 1},
    "srgan": {"channels": 4, "blocks": 2, "scale": 2},
    "style": {"base_channels": 2, "blocks": 1},
}
REFERENCES = (
    "cyclegan-resnet6-instance-dropoutslot",
    "cyclegan-resnet9-instance",
    "faststyle-transformer",
    "patchgan-n3-batch",
    "patchgan-n3-instance",
    "patchgan-pixel-instance",
    "pix2pix-unet128-batch-grey-in",
    "pix2pix-unet128-instance",
    "pix2pix-unet256-batch",
    "srgan-prelu-bn-x4",
    "srresnet-nobn-x2",
    "srresnet-nobn-x4",
)
RANGES = {"signed": (-1.0, 1.0), "unit": (0.0, 1.0), "byte": (0.0, 255.0)}
PARITY = 1e-4  # of the range of the stored output


@pytest.fixture
def updating(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-goldens"))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


def weights_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def generator_of(state: dict[str, Tensor], *, per_image: bool) -> tuple[nn.Module, str]:
    """Import a foreign state; return the network and the range the other project works in."""
    imported = import_state(state, per_image=per_image)
    kind = family(imported.family)
    config = kind.generator_config.model_validate(imported.config)
    network = kind.build_generator(config)
    network.load_state_dict(imported.state)
    return network.eval(), getattr(config, "value_range", "signed")


def discriminator_of(state: dict[str, Tensor]) -> PatchGAN:
    """Load pytorch-CycleGAN-and-pix2pix's pixel or 3-layer one into ours, of the same layers."""
    prefix = "net" if "net.0.weight" in state else "model"
    channels, channels_in = state[f"{prefix}.0.weight"].shape[:2]
    layers = 0 if prefix == "net" else 3
    norm: Norm = "batch" if f"{prefix}.3.weight" in state else "instance"
    network = PatchGAN(channels_in, channels, layers, norm)
    network.load_state_dict({f"body{key.removeprefix(prefix)}": v for key, v in state.items()})
    return network.eval()


@torch.no_grad()
def answer(network: nn.Module, picture: Tensor, value_range: str) -> Tensor:
    """Ask a network of ours in the range of the other project."""
    low, high = RANGES[value_range]
    signed: Tensor = network((picture - low) / (high - low) * 2 - 1)
    return (signed + 1) / 2 * (high - low) + low


def assert_parity(found: Tensor, stored: Tensor) -> None:
    error = ((found - stored).abs().max() / (stored.max() - stored.min())).item()
    assert error < PARITY, f"off by {error:.2e} of the range"


@pytest.mark.parametrize("name", REFERENCES)
def test_reference(shared: Path, name: str) -> None:
    """Every reference file loads by its keys alone and gives its stored output within 1e-4."""
    tensors, _ = read(shared / "golden" / f"{name}.safetensors")
    state = weights_of(tensors)
    if name.startswith("patchgan"):
        with torch.no_grad():
            assert_parity(discriminator_of(state)(tensors["input"]), tensors["output"])
        return
    for key, per_image in (("output", False), ("output_batchnorm_of_one", True)):
        if key in tensors:
            network, value_range = generator_of(state, per_image=per_image)
            assert_parity(answer(network, tensors["input"], value_range), tensors[key])


@pytest.mark.parametrize("path", FOREIGN, ids=lambda path: path.stem)
def test_small_golden(path: Path, updating: bool) -> None:
    """A small file in each foreign layout gives its committed output within 1e-4."""
    tensors, facts = read(path)
    state, stride = weights_of(tensors), int(facts["output_stride"])
    low, high = RANGES[facts["range"]]
    picture = tensors["input"] / 255 * (high - low) + low
    found = {}
    if "patchgan" in path.stem:
        found["output"] = discriminator_of(state)(picture).detach()
    else:
        for key, per_image in (("output", False), ("output_batchnorm_of_one", True)):
            network, value_range = generator_of(state, per_image=per_image)
            assert value_range == facts["range"]
            if key == "output" or "unet" in path.stem:
                found[key] = answer(network, picture, value_range)
    found = {key: value[..., ::stride, ::stride].contiguous() for key, value in found.items()}
    if updating:
        save_file(tensors | found, path, facts)
    for key, value in found.items():
        assert_parity(value, read(path)[0][key])


@pytest.mark.parametrize("family_id", FORMAT1)
def test_format_1(family_id: str, updating: bool) -> None:
    """A checkpoint written by the first version loads and gives the answer it gave then."""
    path = GOLDENS / "format1" / f"{family_id}.safetensors"
    answers = path.with_suffix(".answer.safetensors")
    if updating and not path.exists():
        kind, config = family(family_id), FORMAT1[family_id]
        generator = kind.build_generator(kind.generator_config(**config))
        header = Header(family=family_id, generator=config, name=f"golden-{family_id}")
        save_generator(path, generator, header, torch.float16)
    loaded = load_generator(path)
    if updating:
        picture = torch.rand(1, 3, 32, 32).mul(255).round().to(torch.uint8)
        output = loaded.module(picture / 127.5 - 1)[..., ::4, ::4].contiguous()
        save_file({"input": picture, "output": output}, answers)
    tensors, _ = read(answers)
    found = loaded.module(tensors["input"] / 127.5 - 1)[..., ::4, ::4]
    assert_parity(found, tensors["output"])


def test_import_of_a_wrapped_file(tmp_path: Path) -> None:
    """A .pth of another project becomes a generator whose card says what was recognised."""
    tensors, _ = read(GOLDENS / "foreign" / "pix2pix-unet128-grey.safetensors")
    path = tmp_path / "latest_net_G.pth"
    state = {f"module.{key}": value for key, value in weights_of(tensors).items()}
    torch.save({"epoch": 200, "state_dict": state}, path)
    loaded = import_foreign(path)
    assert loaded.header.card["layout"] == "pytorch-CycleGAN-and-pix2pix U-Net"
    assert loaded.header.generator["statistics"] == "image"
    assert loaded.header.name == "latest_net_g"
    picture = tensors["input"] / 127.5 - 1
    stored = tensors["output_batchnorm_of_one"]
    assert_parity(loaded.module(picture)[..., ::8, ::8], stored)


def pix2pix_resnet(blocks: int = 6, width: int = 4) -> nn.Module:
    """Return pytorch-CycleGAN-and-pix2pix's ResNet with `--norm batch`, by its names."""

    def convolved(layer: nn.Module, channels: int) -> list[nn.Module]:
        return [layer, nn.BatchNorm2d(channels), nn.ReLU()]

    def block(channels: int) -> nn.Module:
        halves = [
            [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=False)] for _ in range(2)
        ]
        norms = [nn.BatchNorm2d(channels) for _ in range(2)]
        residual = _Residual()
        residual.conv_block = nn.Sequential(*halves[0], norms[0], nn.ReLU(), *halves[1], norms[1])
        return residual

    network = nn.Module()
    network.model = nn.Sequential(
        nn.ReflectionPad2d(3),
        *convolved(nn.Conv2d(3, width, 7, bias=False), width),
        *convolved(nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), 2 * width),
        *convolved(nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False), 4 * width),
        *(block(4 * width) for _ in range(blocks)),
        *convolved(nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, 1, bias=False), 2 * width),
        *convolved(nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1, bias=False), width),
        nn.ReflectionPad2d(3),
        nn.Conv2d(width, 3, 7),
        nn.Tanh(),
    )
    return network


class _Residual(nn.Module):
    conv_block: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


@pytest.mark.parametrize("per_image", [True, False])
def test_a_resnet_with_batch_norm_is_run_as_pix2pix_runs_it(
    tmp_path: Path, per_image: bool
) -> None:
    """By each picture's own statistics, as by its test.py without --eval, or the running ones."""
    torch.manual_seed(0)
    theirs = pix2pix_resnet()
    for _ in range(3):  # statistics that are no single picture's
        theirs.model(torch.rand(2, 3, 32, 32) * 2 - 1)
    torch.save(theirs.state_dict(), tmp_path / "latest_net_G.pth")
    loaded = import_foreign(tmp_path / "latest_net_G.pth", per_image=per_image)
    picture = torch.rand(1, 3, 32, 40) * 2 - 1
    with torch.no_grad():
        expected = theirs.train(per_image).model(picture)
        torch.testing.assert_close(loaded.module(picture), expected, atol=1e-4, rtol=0)
    assert loaded.header.generator["norm"] == ("instance_affine" if per_image else "batch")
