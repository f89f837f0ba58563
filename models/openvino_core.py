"""OpenVINO as this project starts it: telling nobody, and in a thread of its own."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["new_core", "openvino"]

# Left alone, OpenVINO reports every import and conversion to its maker's web statistics.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
try:
    import openvino
except ImportError:  # no wheel for this machine
    openvino = None


def new_core() -> Any:
    """Return a Core whose CPU plugin is loaded, by a thread that ends with that.

    The plugin gives the thread that loads it an alternate signal stack of its own, and frees that
    when it is unloaded even if the thread goes on: the next signal there would end the process.
    """

    def load() -> Any:
        core = openvino.Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")
        return core

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(load).result()
