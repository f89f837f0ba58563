"""The page /docs, on a machine without internet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from tiny import tiny_settings


@pytest.mark.parametrize("prefix", ["", "/photos"])
def test_the_page_needs_no_other_host(tmp_path: Path, prefix: str) -> None:
    """/docs and all that it refers to come from this service; no other host is named."""
    client = TestClient(create_app(tiny_settings(tmp_path)), root_path=prefix)
    page = client.get(f"{prefix}/docs")
    policy = page.headers["content-security-policy"]
    assert "//" not in page.text
    assert not re.search(r"//|\*|https?:", policy)
    files = re.findall(r"""(?:src|href)=['"](.+?)['"]""", page.text)
    [document] = re.findall(r"url: '(.+?)'", page.text)
    assert len(files) == 3
    assert client.get(document).json()["info"]["title"] == "Anamorph"
    for url in files:
        assert url.startswith(f"{prefix}/docs/")
        file = client.get(url)
        assert file.status_code == 200
        assert "immutable" in file.headers["cache-control"]


def test_a_new_version_has_new_urls(tmp_path: Path) -> None:
    """The files' URLs end with the version that Swagger UI's script says it has."""
    client = TestClient(create_app(tiny_settings(tmp_path)))
    versions = set(re.findall(r"\?(.+?)['\"]", client.get("/docs").text))
    assert len(versions) == 1
    assert versions.pop() in client.get("/docs/swagger-ui-bundle.js").text


@pytest.mark.parametrize("name", ["LICENSE", "swagger-ui.css.map", "..%2F..%2Fmain.py"])
def test_nothing_else_is_served(tmp_path: Path, name: str) -> None:
    """Any other name below /docs is not found."""
    response = TestClient(create_app(tiny_settings(tmp_path))).get(f"/docs/{name}")
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
