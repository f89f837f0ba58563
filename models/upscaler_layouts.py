"""What other projects call the layers of upscalers."""

from __future__ import annotations

import itertools
import math
import re

from models.layout_plan import Plan, State, side

_LAST_RISE = 9  # of a scale of 8; a number in a key is not to decide how much is allocated


def srgan(state: State, _per_image: bool) -> Plan:
    """leftthomas/SRGAN's."""
    blocks = _count(state, r"block\d+\.conv1\.weight")
    fuse, end = f"block{blocks + 2}", f"block{blocks + 3}"
    rises = _count(state, rf"{end}\.\d+\.conv\.weight")
    layers = {"block1.0": "head.0", "block1.1": "head.1", f"{end}.{rises}": "tail"}
    layers |= {f"{fuse}.0": "fuse.0", f"{fuse}.1": "fuse.1"}
    for index in range(blocks):
        for position, layer in enumerate(("conv1", "bn1", "prelu", "conv2", "bn2")):
            layers[f"block{index + 2}.{layer}"] = f"blocks.{index}.body.{position}"
    for index in range(rises):
        layers |= {f"{end}.{index}.conv": f"up.{index}.0", f"{end}.{index}.prelu": f"up.{index}.2"}
    config = {
        "architecture": "srresnet",
        "channels": side(state, "block1.0.weight", 0),
        "blocks": blocks,
        "scale": 2**rises,
        "value_range": "unit",
        "output": "tanh",
    }
    return Plan("srgan", config, layers)


def msrresnet(state: State, _per_image: bool) -> Plan:
    """BasicSR's MSRResNet."""
    blocks = _count(state, r"body\.\d+\.conv1\.weight")
    channels = side(state, "conv_first.weight", 0)
    rises = 2 if "upconv2.weight" in state else 1
    layers = {"conv_first": "head", "conv_hr": "refine", "conv_last": "tail"}
    for index in range(blocks):
        for layer in ("conv1", "conv2"):
            layers[f"body.{index}.{layer}"] = f"blocks.{index}.{layer}"
    for index in range(rises):
        layers[f"upconv{index + 1}"] = f"up.{index}.0"
    factor = round((side(state, "upconv1.weight", 0) / channels) ** 0.5)
    config = {
        "architecture": "msrresnet",
        "channels": channels,
        "blocks": blocks,
        "scale": factor**rises,
        "batch_norm": False,
        "value_range": "unit",
    }
    return Plan("srgan", config, layers)


def esrgan_old(state: State, _per_image: bool) -> Plan:
    """ESRGAN's first layout, one numbered sequence, whose end depends on the scale."""
    conv = "model.1.sub.{}.RDB{}.conv{}.0"
    last = max(int(found[1]) for key in state if (found := re.match(r"model\.(\d+)\.", key)))
    up = tuple(f"model.{index}" for index in range(3, min(last - 2, _LAST_RISE + 1), 3))
    fuse = f"model.1.sub.{_rrdb_blocks(state, conv)}"
    return _rrdb(state, conv, up, ("model.0", fuse, f"model.{last - 2}", f"model.{last}"))


def esrgan_new(state: State, _per_image: bool) -> Plan:
    """ESRGAN's second layout."""
    up = tuple(name for name in ("upconv1", "upconv2") if f"{name}.weight" in state)
    others = "conv_first", "trunk_conv", "HRconv", "conv_last"
    return _rrdb(state, "RRDB_trunk.{}.RDB{}.conv{}", up, others)


def rrdbnet(state: State, _per_image: bool) -> Plan:
    """BasicSR's layout, and Real-ESRGAN's."""
    up, others = ("conv_up1", "conv_up2"), ("conv_first", "conv_body", "conv_hr", "conv_last")
    return _rrdb(state, "body.{}.rdb{}.conv{}", up, others)


def _rrdb(state: State, conv: str, up: tuple[str, ...], others: tuple[str, str, str, str]) -> Plan:
    """`conv` takes the numbers of block, part and layer; `others` are head, fuse, refine, tail."""
    blocks, head = _rrdb_blocks(state, conv), others[0]
    layers = dict(zip(others, ("head", "fuse", "refine", "tail"), strict=True))
    for block, part, layer in itertools.product(range(blocks), range(3), range(5)):
        theirs = conv.format(block, part + 1, layer + 1)
        layers[theirs] = f"blocks.{block}.body.{part}.convs.{layer}"
    layers |= {theirs: f"up.{index}" for index, theirs in enumerate(up)}
    unshuffle = math.isqrt(max(side(state, f"{head}.weight", 1) // 3, 1))
    config = {
        "architecture": "rrdb",
        "channels": side(state, f"{head}.weight", 0),
        "blocks": blocks,
        "growth": side(state, f"{conv.format(0, 1, 1)}.weight", 0),
        "scale": 2 ** len(up) // unshuffle,
        "unshuffle": unshuffle,
        "value_range": "unit",
    }
    return Plan("srgan", config, layers)


def _rrdb_blocks(state: State, conv: str) -> int:
    return next(n for n in itertools.count() if f"{conv.format(n, 1, 1)}.weight" not in state)


def compact(state: State, _per_image: bool) -> Plan:
    """Real-ESRGAN's SRVGGNetCompact."""
    last = _count(state, r"body\.\d+\.weight") - 1
    config = {
        "architecture": "compact",
        "channels": side(state, "body.0.weight", 0),
        "blocks": last // 2 - 1,
        "scale": math.isqrt(side(state, f"body.{last}.weight", 0) // 3),
        "value_range": "unit",
    }
    return Plan("srgan", config, {f"body.{index}": f"body.{index}" for index in range(last + 1)})


def _count(state: State, pattern: str) -> int:
    return sum(1 for key in state if re.fullmatch(pattern, key))
