"""A service where others put it: below a proxy's path, in Kubernetes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings
from test_server import Server
from tiny import encoded, photo


def test_links_have_the_proxys_path(tmp_path: Path) -> None:
    """Requests come without the path; the page's files, the API's address and links have it."""
    with Server(tmp_path, tmp_path / "log", root_path="/pictures/v2").ready() as server:
        client = server.client
        assert "'/pictures/v2/openapi.json'" in client.get("/docs").text
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/pictures/v2"}]
        assert client.get("/v1/limits").status_code == 200
        assert client.post("/v1/stylize?style=no", content=encoded(photo(8, 8))).status_code == 404
        assert 'route="/v1/limits",status="200"' in client.get("/metrics").text


def test_a_service_link_of_kubernetes_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kubernetes makes of ANAMORPH_PORT for a Service of that name stops no start."""
    monkeypatch.setenv("ANAMORPH_PORT", "tcp://10.0.0.7:8000")
    assert Settings().port == 8000
    monkeypatch.setenv("ANAMORPH_PORT", "80x")
    with pytest.raises(ValidationError, match="port"):
        Settings()


@pytest.mark.parametrize("path", ["/", "pictures", "/a/", "//a", "/a b", "https://a.example/b"])
def test_no_such_path(path: str) -> None:
    """What is not a path in front of others is refused at the start."""
    with pytest.raises(ValidationError, match="root_path"):
        Settings(root_path=path)
