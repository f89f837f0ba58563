"""ESRGAN's and Real-ESRGAN's checkpoints give the answers that spandrel's networks give."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from spandrel import MAIN_REGISTRY
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from torch import Tensor, nn

from models.errors import UnknownLayout
from models.importers import import_foreign

State = dict[str, Tensor]
_SMALL = {"num_filters": 6, "num_blocks": 2}


def as_it_is(state: State) -> State:
    return state


def renamed(conv: str, *others: str) -> Callable[[State], State]:
    """Return what gives the layers of ESRGAN's old layout (two blocks, x4) other names."""
    old = "model.0", "model.1.sub.2", "model.3", "model.6", "model.8", "model.10"
    names = dict(zip(old, others, strict=True))

    def rename(state: State) -> State:
        layers = {key: key.rpartition(".") for key in state}
        inner = re.compile(r"model\.1\.sub\.(\d)\.RDB(\d)\.conv(\d)\.0")
        return {
            f"{names.get(layer) or inner.sub(conv, layer)}.{kind}": state[key]
            for key, (layer, _, kind) in layers.items()
        }

    return rename


AS_NEW = renamed(
    r"RRDB_trunk.\1.RDB\2.conv\3",
    *("conv_first", "trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last"),
)
AS_BASICSR = renamed(
    r"body.\1.rdb\2.conv\3",
    *("conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"),
)
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[State], State]]] = {
    "ESRGAN, old": (lambda: ESRGAN(scale=4, **_SMALL), as_it_is),
    "ESRGAN, old, x2": (lambda: ESRGAN(scale=2, **_SMALL), as_it_is),
    "ESRGAN, new": (lambda: ESRGAN(scale=4, **_SMALL), AS_NEW),
    "BasicSR RRDBNet": (lambda: ESRGAN(scale=4, **_SMALL), AS_BASICSR),
    "BasicSR RRDBNet, x2": (
        lambda: ESRGAN(in_nc=12, scale=4, shuffle_factor=2, **_SMALL),
        AS_BASICSR,
    ),
    "Real-ESRGAN SRVGGNetCompact": (lambda: Compact(num_feat=6, num_conv=3, upscale=4), as_it_is),
    "Real-ESRGAN SRVGGNetCompact, x2": (
        lambda: Compact(num_feat=6, num_conv=2, upscale=2),
        as_it_is,
    ),
}


def draw(network: nn.Module) -> nn.Module:
    """Give a network weights with which every layer counts."""
    torch.manual_seed(0)
    for name, weight in network.named_parameters():
        nn.init.normal_(weight, 0.25 if weight.ndim == 1 else 0.0, 0.1 if "bias" in name else 0.2)
    return network.eval()


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_upscalers_are_read(case: str, tmp_path: Path) -> None:
    """A .pth of each layout is recognised, and its network answers as spandrel's does."""
    build, rename = CASES[case]
    theirs = draw(build())
    state = rename(theirs.state_dict())
    path = tmp_path / "upscaler.pth"
    torch.save({"params_ema": state}, path)
    loaded = import_foreign(path)
    assert case.startswith(loaded.header.card["layout"])
    picture = torch.rand(1, 3, 14, 18)
    spandrels = MAIN_REGISTRY.load(dict(state))
    assert loaded.family.scale(loaded.config) == spandrels.scale
    expected = spandrels.model(picture)
    torch.testing.assert_close(expected, theirs(picture))
    answer = loaded.module(picture * 2 - 1) * 0.5 + 0.5
    assert answer.shape[-1] == 18 * spandrels.scale
    spread = float(expected.max() - expected.min())
    torch.testing.assert_close(answer, expected, atol=1e-4 * spread, rtol=0)


def test_a_number_in_a_key_allocates_nothing(tmp_path: Path) -> None:
    """A small file that numbers its layers by thousands of millions is refused at once."""
    state = ESRGAN(**_SMALL).state_dict() | {"model.3000000000.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "upscaler.pth")
    with pytest.raises(UnknownLayout, match="scale"):
        import_foreign(tmp_path / "upscaler.pth")


VARIANTS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "grey": (lambda: ESRGAN(in_nc=1, out_nc=1, **_SMALL), r"model\.0\.weight"),
    "ESRGAN+": (lambda: ESRGAN(plus=True, **_SMALL), r"model\.1\.sub\.0\.RDB1\.conv1x1\.weight"),
    "a scale of 3": (lambda: Compact(num_feat=6, num_conv=2, upscale=3), r"scale: .*\(3\)"),
    "a scale of 1": (lambda: Compact(num_feat=6, num_conv=2, upscale=1), r"scale: .*\(1\)"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_an_upscaler_has_beyond_is_named(variant: str, tmp_path: Path) -> None:
    """A variant that we have no network for is refused, and what it differs in is named."""
    build, named = VARIANTS[variant]
    torch.save(build().state_dict(), tmp_path / "upscaler.pth")
    with pytest.raises(UnknownLayout, match=named):
        import_foreign(tmp_path / "upscaler.pth")
