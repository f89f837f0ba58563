"""The files of the page: what is served, under which policy, and what they may refer to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from conftest import ROOT
from tiny import tiny_settings

FOLDER = ROOT / "app" / "static" / "page"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.*"))
TEXTS = [name for name in FILES if not name.endswith(".jpg")]


@pytest.mark.parametrize("prefix", ["", "/photos"])
def test_the_page_needs_no_other_host(tmp_path: Path, prefix: str) -> None:
    """The page and its files come from this service alone, below any path, and may be kept."""
    client = TestClient(create_app(tiny_settings(tmp_path)), root_path=prefix)
    page = client.get(f"{prefix}/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert not re.search(r"//|\*|https?:", policy)
    for name in FILES:
        file = client.get(f"{prefix}/page/{name}")
        assert file.status_code == 200, name
        again = {"If-None-Match": file.headers["etag"]}
        assert client.get(f"{prefix}/page/{name}", headers=again).status_code == 304
    for name in ("index", "../../main.py", "..%2F..%2Fmain.py", "thumbnails", "%00"):
        assert client.get(f"{prefix}/page/{name}").json()["code"] == "not_found"


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_is_plain(name: str) -> None:
    """No file names another host but SVG's namespace, and HTML has no script or style in it."""
    text = (FOLDER / name).read_text("utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|eval)\b", text)
    if name.endswith(".html"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
        linked = re.findall(r'(?:href|src)="page/([^"]+)"', text)
        assert set(linked) <= set(FILES)
    if name.endswith(".js"):
        assert len(text.splitlines()) <= 200
        assert {found[2:] for found in re.findall(r'from "(.+?)"', text)} <= set(FILES)


def test_every_model_that_ships_has_a_thumbnail() -> None:
    """The list of thumbnails names all there are, every model among them, in under 300 kB."""
    files = {path.stem: path for path in (FOLDER / "thumbnails").glob("*.jpg")}
    listed = re.findall(r'^  "(.+)",$', (FOLDER / "thumbnails.js").read_text("utf-8"), re.MULTILINE)
    assert set(listed) == set(files)
    assert set(files) >= {path.stem for path in (ROOT / "models" / "weights").glob("*.safetensors")}
    assert sum(path.stat().st_size for path in files.values()) < 300_000
