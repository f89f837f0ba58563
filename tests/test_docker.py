"""The container files, as far as they can be checked without a container."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from app.settings import Settings
from conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()


@pytest.fixture
def services() -> dict[str, Any]:
    """The compose file's services, with its anchors resolved."""
    return yaml.safe_load(COMPOSE)["services"]


def test_image_installs_as_the_readme_does() -> None:
    """The image is built by the pip line of the README."""
    line = r"pip install -q -c constraints\.txt -e \.(?=\s)"
    readme = re.search(line, (ROOT / "README.md").read_text())
    image = re.search(line, DOCKERFILE)
    assert readme
    assert image


def test_image_copies_what_exists() -> None:
    """Every path that the Dockerfile copies is in the repository and let through .dockerignore."""
    copied = [
        source
        for sources in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    ]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore


def test_image_sets_only_known_settings() -> None:
    """Every ANAMORPH_ variable of the image and the compose file is a setting of the service."""
    names = {name.lower() for name in re.findall(r"\bANAMORPH_([A-Z0-9_]+)", DOCKERFILE + COMPOSE)}
    assert {"home", "host", "device"} <= names <= set(Settings.model_fields)


def test_image_runs_unprivileged_and_is_watched() -> None:
    """The image drops root before it starts and carries a health check of a real endpoint."""
    instructions = re.findall(r"^([A-Z]+)\b(.*)$", DOCKERFILE, re.MULTILINE)
    names = [name for name, _ in instructions]
    assert ("USER", " anamorph") in instructions
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "HEALTHCHECK" in names
    assert "'http://127.0.0.1:' + environ['ANAMORPH_PORT'] + '/readyz'" in DOCKERFILE


def test_image_is_readable_to_its_user_whatever_the_builders_umask() -> None:
    """After the last copy and before root is dropped, all that was copied is made readable."""
    steps = re.findall(r"^(?:COPY|USER|RUN chmod -R a\+rX \.$).*", DOCKERFILE, re.MULTILINE)
    assert steps[-3].startswith("COPY ")
    assert steps[-2:] == ["RUN chmod -R a+rX .", "USER anamorph"]


def test_every_service_is_locked_down(services: dict[str, Any]) -> None:
    """Both services run on a read-only root without capabilities, and are published locally."""
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["volumes"] == ["data:/data"]


def test_only_a_local_port_needs_no_key(services: dict[str, Any]) -> None:
    """The image asks for keys; the compose file waives them where the port is this machine's."""
    assert "INSECURE=" not in DOCKERFILE
    for service in services.values():
        assert service["environment"]["ANAMORPH_INSECURE"] == "true"
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_waiver_can_be_taken_away(services: dict[str, Any]) -> None:
    """Without its line ANAMORPH_INSECURE the compose file is the same but for that variable."""
    without, count = re.subn(r"^ +ANAMORPH_INSECURE:.*\n", "", COMPOSE, flags=re.MULTILINE)
    assert count == 1
    for service in services.values():
        del service["environment"]["ANAMORPH_INSECURE"]
        assert service["environment"], "Compose takes no empty mapping"
    assert yaml.safe_load(without)["services"] == services


def test_the_gpu_belongs_to_one_service(services: dict[str, Any]) -> None:
    """`anamorph` reserves an NVIDIA GPU; `cpu` reserves none and starts only when named."""
    (gpu,) = services["anamorph"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu["driver"] == "nvidia"
    assert gpu["capabilities"] == ["gpu"]
    assert services["cpu"]["profiles"] == ["cpu"]
    assert "deploy" not in services["cpu"]
