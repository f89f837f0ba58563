"""What finds faces is opened once, and again after it could not be."""

import asyncio
from pathlib import Path

import pytest
import torch

import app.service
from app.service import Service
from models.faces.detection import Detector, open_detector
from tiny import tiny_settings


def test_a_detector_that_failed_to_open_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps a detector from opening for one request does not for the next."""
    opened: list[Detector] = []

    def open_later(device: torch.device, path: Path | None) -> Detector:
        if not opened:
            opened.append(open_detector(device, path))
            raise MemoryError
        return opened[0]

    monkeypatch.setattr(app.service, "open_detector", open_later)

    async def scenario() -> None:
        service = Service(tiny_settings(tmp_path))
        with pytest.raises(MemoryError):
            await service.detector()
        assert await service.detector() is await service.detector() is opened[0]
        await service.close()

    asyncio.run(scenario())
