"""Which floating-point type a device multiplies fastest, and the autocast that follows from it."""

from __future__ import annotations

from typing import Literal

import torch


def autocast(
    wanted: Literal["auto", "bfloat16", "float32"], device: torch.device
) -> torch.autocast:
    """Return a context, good for many entries, in which matrix products run as `wanted`."""
    low = wanted == "bfloat16" or (wanted == "auto" and native_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=low)


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 natively: CUDA from Ampere on, CPUs with AMX or AVX512."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
