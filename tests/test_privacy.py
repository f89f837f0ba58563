"""What the service tells others: nothing."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT

PROGRAM = """
import sys
import app.engines, app.main
assert "openvino" in sys.modules
assert sys.modules.get("openvino_telemetry") is None, "OpenVINO reports its use over the network"
"""


def test_the_service_reports_to_nobody() -> None:
    """OpenVINO's telemetry, which is on unless refused, is not even imported by the service."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=False, cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
