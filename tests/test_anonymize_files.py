"""What an anonymized file holds beside the picture, and what of an upload stays on the disk."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageCms

from app.main import create_app
from grace import PASSCODE, anonymize, hopper, rgb
from tiny import encoded, opened, publish_models, tiny_settings, until_ready


def test_no_picture_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the answers no file of the home or of the temporary folder has changed."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    temporary.mkdir()
    publish_models(home, ("face-identity",))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    large = hopper(0.5)  # over the 1 MiB that an upload may take in memory
    with TestClient(create_app(tiny_settings(home))) as client:
        until_ready(client)
        before = files_of(tmp_path)
        answer = anonymize(client, encoded(large), passcode=PASSCODE)
        assert answer.status_code == 200
        fields = {"passcode": PASSCODE}
        assert client.post("/v1/restore", files={"image": answer.content}, data=fields).is_success
        assert files_of(tmp_path) == before


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def with_metadata(kind: str, orientation: int = 1) -> bytes:
    """Grace Hopper with GPS, thumbnail, XMP, IPTC, comment and profile, all marked SECRET."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x927C] = "SECRET maker", orientation, b"SECRET maker note"
    exif.get_ifd(0x8825)[29] = "SECRET gps"
    image = hopper(2)
    if orientation == 6:
        image = image.transpose(Image.Transpose.ROTATE_90)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {"exif": exif, "icc_profile": profile + b"SECRET", "xmp": b"<x>SECRET xmp</x>"}
    data = encoded(image, kind, **options | ({"comment": b"SECRET"} if kind == "jpeg" else {}))
    if kind != "jpeg":
        return data
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x00\x00\x12SECRET by-line\x00\x00"
    thumbnail = b"JFXX\x00\x10SECRET thumbnail"
    parts = (
        bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body
        for marker, body in ((0xED, iptc), (0xE0, thumbnail), (0xE9, b"SECRET maker data"))
    )
    return data[:2] + b"".join(parts) + data[2:] + b"SECRET after the end"


def parts_of(data: bytes, kind: str) -> list[str]:
    """Name the segments or chunks of a file, read without Pillow."""
    names = []
    if kind == "jpeg":
        at = 2
        while data[at + 1] != 0xDA:
            names.append(f"{data[at + 1]:02x}")
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
        names.append("da")
        assert data.endswith(b"\xff\xd9")
    elif kind == "png":
        at = 8
        while at < len(data):
            length, name = struct.unpack_from(">I4s", data, at)
            names.append(name.decode())
            at += 12 + length
    else:
        at = 12
        while at < len(data):
            name, length = struct.unpack_from("<4sI", data, at)
            names.append(name.decode())
            at += 8 + length + length % 2
    assert at <= len(data)
    return names


@pytest.mark.parametrize("passcode", [None, PASSCODE])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_metadata_is_gone(faces_client: TestClient, kind: str, passcode: str | None) -> None:
    """No EXIF, GPS, thumbnail, XMP, IPTC, profile, comment or trailing bytes leave the service.

    Read chunk by chunk; beside the picture there is at most the seal.
    """
    data = with_metadata(kind)
    assert b"SECRET" in data
    fields = {"passcode": passcode} if passcode else {}
    response = anonymize(faces_client, data, method="solid", **fields)
    assert response.status_code == 200, response.text
    assert b"SECRET" not in response.content
    names = set(parts_of(response.content, kind))
    seal = {"jpeg": {"ef"}, "png": {"anSL"}, "webp": {"VP8X", "ANSL"}}[kind]
    plain = {
        "jpeg": {"e0", "db", "c0", "c4", "da"},
        "png": {"IHDR", "IDAT", "IEND"},
        "webp": {"VP8 "},
    }[kind]
    assert names - plain == (seal if passcode else set())


def test_rotated_photos_are_turned_upright_first(faces_client: TestClient) -> None:
    """Boxes and faces are those of the picture as it is seen; EXIF turns it once."""
    response = anonymize(faces_client, with_metadata("jpeg", orientation=6), method="solid")
    answer = opened(response)
    assert answer.size == (256, 300)
    assert response.headers["x-faces"] == "1"
    np.testing.assert_array_equal(rgb(answer)[100:160, 100:160] // 4, 127 // 4)
