"""What every test shares: seeds, threads, a clean environment and the files of `../shared`."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
import structlog
import torch

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from playwright.sync_api import Browser, Page, Route

    from browsing import Camera
    from stubs import KeyedService

ROOT = Path(__file__).resolve().parents[1]

# Machines that train meanwhile make any deadline a matter of luck.
hypothesis.settings.register_profile("anamorph", deadline=None)
hypothesis.settings.load_profile("anamorph")


CHROMIUM = Path("/usr/bin/chromium")  # as Debian installs it


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options that write files of the repository anew from what the code answers now."""
    parser.addoption("--update-goldens", action="store_true", help="rewrite tests/goldens")
    parser.addoption("--update-screenshots", action="store_true", help="rewrite docs/images/page-*")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin what takes minutes first, so that no process has it left at the end."""
    if config.getoption("--update-screenshots"):
        items[:] = [item for item in items if "camera" in getattr(item, "fixturenames", ())]
    for item in items:
        # Under pytest 9.2 schemathesis gives all operations of a test one id, and of tests with
        # the same id pytest-xdist runs the first alone.
        _, bracket, label = item.name.partition("[")
        if bracket and item.id.params is None:
            item._id = item.id.with_params(label.removesuffix("]"))
    if len({item.nodeid for item in items}) < len(items):
        raise pytest.UsageError("two tests have the same id, and one would not be run")
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of datasets and reference outputs beside the repository, which may be absent."""
    folder = Path(os.environ.get("ANAMORPH_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no ../shared beside the repository and no ANAMORPH_SHARED")
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with a tiny network of every family; many modules have another one."""
    from fastapi.testclient import TestClient

    from app.main import create_app
    from tiny import publish_models, tiny_settings, until_ready

    home = tmp_path_factory.mktemp("home")
    publish_models(home)
    with TestClient(create_app(tiny_settings(home))) as client:
        until_ready(client)
        yield client


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks run in torch, as where OpenVINO has no wheel: quicker to build, slower to run."""
    import app.engines

    monkeypatch.setattr(app.engines, "openvino", None)


@pytest.fixture(scope="module")
def faces_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with both face generators, of random weights, and a style."""
    from fastapi.testclient import TestClient

    import app.engines
    from app.main import create_app
    from tiny import FACE_MODELS, publish_models, tiny_settings, until_ready

    home = tmp_path_factory.mktemp("home")
    publish_models(home, (*FACE_MODELS, "starry-night"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.engines, "openvino", None)  # quicker to build, slower to run
        settings = tiny_settings(home, restore_attempts_per_minute=100)
        settings = settings.model_copy(update={"threads": 1})  # see one_thread
        with TestClient(create_app(settings)) as client:
            until_ready(client)
            yield client


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of `write_data`, and the perceptual networks with random weights."""
    from tiny_training import write_data, write_embedding, write_vgg16

    root = tmp_path_factory.mktemp("data")
    write_data(root)
    write_vgg16(root / "vgg16.safetensors")
    write_embedding(root / "embedding.safetensors")
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium that asks nothing of other hosts."""
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: {CHROMIUM} is not there (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    quiet = ("background-networking", "component-update", "gpu", "quic", "sync")
    options = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    # Closed with the module: an open Playwright keeps the thread's event loop to itself.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def keyed_service(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeyedService]:
    """A server with two tiny models that asks for a key."""
    from stubs import KeyedService

    service = KeyedService(tmp_path_factory.mktemp("home"))
    with service.server.ready(900):
        yield service


@pytest.fixture
def page(browser: Browser, keyed_service: KeyedService) -> Iterator[Page]:
    """The page of that service, open with the key for everything; some modules have another one."""
    from browsing import visit

    with visit(browser, keyed_service.url, key=keyed_service.key) as page:
        page.locator(".tile").first.wait_for()
        yield page


@pytest.fixture
def troubled(page: Page, keyed_service: KeyedService) -> Callable[..., None]:
    """Has requests for a path answered otherwise: by a JSON body, or as a function does it."""

    def trouble(path: str, answer: Any) -> None:
        def handle(route: Route) -> None:
            if route.request.headers.get("x-api-key") != keyed_service.key:
                route.fallback()
            elif callable(answer):
                answer(route)
            else:
                route.fulfill(json=answer)

        page.route(re.compile(rf"/v1/{path}(\?.*)?$"), handle)

    return trouble


@pytest.fixture
def camera(request: pytest.FixtureRequest) -> Camera:
    """Takes the screenshots of the documents, where --update-screenshots asks for them."""
    from browsing import Camera  # which knows ROOT from here

    asked = request.config.getoption("--update-screenshots")
    return Camera(ROOT / "docs" / "images" if asked else None)


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Layers this small only wait for a second thread, for long where a training runs beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - torchvision and others draw from the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """A test that sets up logging binds it to its own captured output, which closes with it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """DataLoader workers leave a SIGCHLD handler in the process that started them."""
    yield
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the caller's settings out of the tests, and the tests out of the caller's models."""
    for name in os.environ:
        if name.startswith("ANAMORPH_") and name != "ANAMORPH_SHARED":
            monkeypatch.delenv(name)
    monkeypatch.setenv("ANAMORPH_HOME", str(tmp_path / "home"))
