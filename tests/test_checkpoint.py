"""The weight format: what is written can be read, and nothing else is."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from pathlib import Path
from struct import pack
from typing import Any
from zipfile import is_zipfile

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.checkpoint import Header, load_generator, read_header, save_generator
from models.errors import InvalidCheckpoint, ModelError, UnknownLayout
from models.families import family
from models.importers import import_foreign, read_foreign

CONFIG = {"channels": 8, "blocks": 1, "batch_norm": False}
FOREIGN = Path(__file__).parent / "goldens" / "foreign"


def save_tiny(path: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    kind = family("srgan")
    generator = kind.build_generator(kind.generator_config(**CONFIG)).eval()
    header = Header(family="srgan", generator=CONFIG, name="tiny", card={"licence": "CC0"})
    save_generator(path, generator, header, dtype)
    return generator


def rewrite(path: Path, **changes: Any) -> None:
    """Change fields of a file's header."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["anamorph"])
    save_file(load_file(path), path, {"anamorph": json.dumps(header | changes)})


def foreign_state(name: str) -> dict[str, Tensor]:
    tensors = load_file(FOREIGN / f"{name}.safetensors")
    return {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}


def test_round_trip(tmp_path: Path) -> None:
    """A saved generator comes back with its answer, card and hash."""
    path = tmp_path / "tiny.safetensors"
    generator = save_tiny(path)
    loaded = load_generator(path)
    picture = torch.rand(1, 3, 9, 7) * 2 - 1
    torch.testing.assert_close(loaded.module(picture), generator(picture), rtol=0, atol=0)
    assert loaded.header.card == {"licence": "CC0"}
    assert read_header(path) == loaded.header
    assert len(loaded.sha256) == 64
    assert not any(p.requires_grad for p in loaded.module.parameters())


def test_half_precision_storage(tmp_path: Path) -> None:
    """A float16 file is half the size and loads as float32."""
    save_tiny(tmp_path / "full.safetensors")
    save_tiny(tmp_path / "half.safetensors", torch.float16)
    loaded = load_generator(tmp_path / "half.safetensors")
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    full, half = ((tmp_path / f"{n}.safetensors").stat().st_size for n in ("full", "half"))
    assert half < 0.65 * full


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format"),
        ({"family": "diffusion"}, "diffusion"),
        ({"extra": 1}, "extra"),
        ({"generator": CONFIG | {"blocks": 2}}, "blocks.1.conv1.bias is missing"),
        ({"generator": CONFIG | {"channels": 16}}, "instead of"),
        ({"generator": CONFIG | {"blocks": 200}}, "blocks = 200"),
        ({"generator": CONFIG | {"blocks": 10**9}}, "blocks: .*256"),
        ({"generator": CONFIG | {"channels": "1000000000000000000"}}, "channels: .*integer"),
        ({"generator": CONFIG | {"colour": "red"}}, "colour"),
        ({"name": "../../etc/passwd"}, "name"),
        ({"card": {"task_note": 1}}, "task_note"),
        ({"card": {"licence": ["CC0"]}}, "licence"),
        ({"card": {"regression_model": None}}, "regression_model"),
        ({"card": {"lineage": "from Bob"}}, "lineage"),
        ({"card": {"lineage": {"owner": {}}}}, "lineage.owner"),
        ({"card": {"recipe": None}}, "recipe"),
        ({"card": {"recipe": {"objective": "none"}}}, "recipe.objective"),
        ({"card": {"gate": {"passed": "yes", "reason": ""}}}, "gate.passed"),
        ({"card": {"gate": {"passed": True}}}, "gate.reason"),
        ({"card": {"metrics": {}}}, "metrics"),
        ({"card": {"metrics": [{"title": "t", "protocols": {"a": ""}, "rows": {"r": {}}}]}}, "row"),
    ],
)
def test_header_that_lies(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """A header that does not describe the tensors is refused with the reason."""
    path = tmp_path / "tiny.safetensors"
    save_tiny(path)
    rewrite(path, **changes)
    with pytest.raises(InvalidCheckpoint, match=message) as raised:
        load_generator(path)
    assert path.name in str(raised.value)


def test_figures_that_are_not_finite(tmp_path: Path) -> None:
    """A card's figures are such as every answer in JSON can hold."""
    path = tmp_path / "tiny.safetensors"
    save_tiny(path)
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["anamorph"].replace('"CC0"', '"CC0", "hours": 1e999, "loss": NaN')
    save_file(load_file(path), path, {"anamorph": text})
    assert read_header(path).card == {"licence": "CC0", "hours": None, "loss": None}


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    """A file with NaN weights is refused, and none is written."""
    path = tmp_path / "tiny.safetensors"
    generator = save_tiny(path)
    header = read_header(path)
    with torch.no_grad():
        next(generator.parameters())[0] = torch.nan
    with pytest.raises(InvalidCheckpoint, match="not finite"):
        save_generator(path, generator, header)
    assert load_generator(path).header == header


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.int8, 1),
        (torch.bool, True),
        (torch.complex64, 1),
        (torch.float8_e4m3fn, torch.nan),
        (torch.float64, 1e300),
    ],
)
def test_weights_of_other_kinds(tmp_path: Path, dtype: torch.dtype, value: complex) -> None:
    """A file whose weights are no real numbers, or none that float32 can hold, is refused."""
    path = tmp_path / "tiny.safetensors"
    save_tiny(path)
    state = {key: torch.full_like(v, value, dtype=dtype) for key, v in load_file(path).items()}
    save_file(state, path, {"anamorph": read_header(path).model_dump_json()})
    with pytest.raises(InvalidCheckpoint, match=r"holds"):
        load_generator(path)


def test_file_without_header(tmp_path: Path) -> None:
    """A foreign safetensors file is refused with a hint at the import command."""
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InvalidCheckpoint, match="anamorph models import"):
        load_generator(tmp_path / "x.safetensors")
    with pytest.raises(InvalidCheckpoint):
        load_generator(tmp_path / "absent.safetensors")


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=25)
def test_damaged_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A truncated or altered file loads or is an InvalidCheckpoint, never another error."""
    path = tmp_path_factory.mktemp("damaged") / "tiny.safetensors"
    save_tiny(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, 1500))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(InvalidCheckpoint):
        load_generator(path)


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".model", ".safetensors"])
def test_pickled_code_never_runs(tmp_path: Path, suffix: str) -> None:
    """A checkpoint with pickled code is refused, and the code does not run."""
    proof = tmp_path / "ran"
    zipped, bare = tmp_path / f"zipped{suffix}", tmp_path / f"bare{suffix}"
    torch.save({"state_dict": _Bomb(proof)}, zipped)
    bare.write_bytes(pickle.dumps({"state_dict": _Bomb(proof)}))
    for path in (zipped, bare):
        with pytest.raises(InvalidCheckpoint):
            import_foreign(path)
        with pytest.raises(InvalidCheckpoint):
            load_generator(path)
    assert not proof.exists()


def test_a_damaged_archive(tmp_path: Path) -> None:
    """A checkpoint whose end claims a directory that is not there is refused."""
    path = tmp_path / "broken.pth"
    path.write_bytes(b"x" * 100 + b"PK\5\6" + pack("<4H2LH", 0, 0, 1, 1, 46, 0, 0))
    assert is_zipfile(path)
    with pytest.raises(InvalidCheckpoint):
        import_foreign(path)


@pytest.mark.parametrize("value", [torch.ones(2).to_sparse(), torch.ones(2, device="meta")])
def test_tensors_without_plain_values(tmp_path: Path, value: Tensor) -> None:
    """Sparse tensors and such without values are refused in words."""
    torch.save({"conv_first.weight": value}, tmp_path / "odd.pth")
    with pytest.raises(InvalidCheckpoint, match="plain"):
        import_foreign(tmp_path / "odd.pth")


def test_tensor_larger_than_its_file(tmp_path: Path) -> None:
    """A view that claims a terabyte over four bytes is refused before it is copied."""
    path = tmp_path / "huge.pth"
    torch.save({"conv_first.weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    with pytest.raises(InvalidCheckpoint, match="more weights than"):
        import_foreign(path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"params": {}, "params_ema": s},
        lambda s: {"params": {}, "params-ema": s},
        lambda s: {"epoch": 3, "model_state_dict": s},
        lambda s: {"params": s},
        lambda s: {"model": {"net": s}},
        lambda s: {"anything": s},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"module.netG.{k}": v for k, v in s.items()},
    ],
)
def test_wrappers(tmp_path: Path, wrap: Any) -> None:
    """The state dict is found under every wrapper and prefix in use."""
    state = foreign_state("srresnet-basicsr-x2")
    torch.save(wrap(state), tmp_path / "net.pth")
    assert read_foreign(tmp_path / "net.pth").keys() == state.keys()


def test_legacy_instance_norm_statistics(tmp_path: Path) -> None:
    """The running statistics that old InstanceNorm files carry are dropped."""
    state = foreign_state("cyclegan-resnet6-dropout")
    for key in ("running_mean", "running_var"):
        state[f"model.2.{key}"] = torch.ones(2)
    torch.save(state, tmp_path / "latest_net_G.pth")
    loaded = import_foreign(tmp_path / "latest_net_G.pth")
    assert loaded.header.generator["norm"] == "instance"
    assert loaded.header.generator["dropout"] == 0.5


def test_keys_not_understood_are_named(tmp_path: Path) -> None:
    """An unknown layout is refused with exactly the keys that are not understood."""
    state = foreign_state("cyclegan-resnet6-dropout")
    state["model.4.filt"] = torch.ones(3, 3)
    state["attention.gamma"] = torch.ones(1)
    missing = state.pop("model.23.bias")
    assert missing.ndim == 1
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(UnknownLayout) as caught:
        import_foreign(tmp_path / "net.pth")
    assert str(caught.value).endswith(
        "not understood: attention.gamma, model.4.filt; missing: model.23.bias"
    )


def test_unknown_layouts(tmp_path: Path) -> None:
    """ESRGAN's keys, a tensor alone and an empty file are unknown layouts, not crashes."""
    path = tmp_path / "net.pth"
    for content in ({"model.1.sub.0.RDB1.conv1.0.weight": torch.ones(1)}, torch.ones(2), {}, [1]):
        torch.save(content, path)
        with pytest.raises(UnknownLayout, match="not understood"):
            import_foreign(path)


def test_unknown_variant(tmp_path: Path) -> None:
    """BasicSR's x3 network, which we do not have, is refused with its scale."""
    state = foreign_state("srresnet-basicsr-x2")
    state["upconv1.weight"] = torch.zeros(36, 4, 3, 3)
    torch.save(state, tmp_path / "x3.pth")
    with pytest.raises(UnknownLayout, match=r"scale.*3"):
        import_foreign(tmp_path / "x3.pth")


@hypothesis.given(
    keys=st.dictionaries(
        st.from_regex(
            r"(model|net|block|res|body|conv)[0-9]?(\.[0-9a-z_]{1,8}){1,3}", fullmatch=True
        ),
        st.lists(st.integers(0, 3), max_size=4),
        min_size=1,
        max_size=6,
    ),
    marker=st.sampled_from(
        (
            "model.10.conv_block.1.weight",
            "model.model.0.weight",
            "conv1.conv2d.weight",
            "block1.0.weight",
            "upconv1.weight",
            "conv_first.weight",
            "model.0.weight",
        )
    ),
    shape=st.lists(st.integers(0, 3), max_size=4),
)
@hypothesis.settings(max_examples=60)
def test_any_keys_and_shapes(
    tmp_path_factory: pytest.TempPathFactory,
    keys: dict[str, list[int]],
    marker: str,
    shape: list[int],
) -> None:
    """Whatever a file's keys and shapes, the importers answer with one of our errors."""
    path = tmp_path_factory.mktemp("any") / "net.pth"
    torch.save({k: torch.zeros(s) for k, s in (keys | {marker: shape}).items()}, path)
    with pytest.raises(ModelError):
        import_foreign(path)
