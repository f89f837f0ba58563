"""The client against the real service: over loopback, and by ASGI without a socket."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

import anamorph
from anamorph import AsyncClient, Client
from app.main import create_app
from app.retraining.job_folder import JobFolder
from test_server import Server
from tiny import encoded, photo, publish_models, tiny_settings
from tiny_training import write_data

TINY = {
    "generator": {"base_channels": 4, "depth": 5},
    "objective": {"patch_layers": 1, "patch_channels": 8},
    "data": {"load_px": 36, "crop_px": 32},
    "training": {"batch": 1},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    publish_models(folder, ("facades", "srresnet-x4", "starry-night"))
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder, 6)
    with zipfile.ZipFile(folder / "pairs.zip", "w") as file:
        for path in (folder / "pairs").iterdir():
            file.write(path, path.name)
    return folder / "pairs.zip"


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[Client]:
    """A client of an `anamorph serve` process that trains nothing."""
    server = Server(home, home / "log", threads=1)
    with server.ready(240), Client(f"http://127.0.0.1:{server.port}") as client:
        yield client


def test_pictures_go_and_come_with_how_they_came_about(client: Client, tmp_path: Path) -> None:
    """A path, bytes or an image go in; bytes, a file or an image come out, with the facts."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(photo(24, 40), "jpeg"))
    large = client.upscale(path, scale=2, format="webp", quality=80)
    assert large.save(tmp_path / "large.webp").read_bytes() == bytes(large)
    assert (large.image().size, large.image().format) == ((80, 48), "WEBP")
    assert (large.model, large.media_type) == ("srresnet-x4@1", "image/webp")
    assert large.weights_sha256 == client.get_model("srresnet-x4").sha256
    assert large.timings_ms.keys() >= {"decode", "forward", "encode"}
    assert large.request_id
    painted = client.stylize(photo(24, 40), style="starry-night", strength=0.5, keep_colors=True)
    assert (painted.image().size, painted.media_type) == ((40, 24), "image/png")
    facade = client.translate(path.read_bytes(), model="facades")
    assert (facade.model, facade.media_type) == ("facades@1", "image/jpeg")


def test_faces_go_and_come_back(client: Client) -> None:
    """Sealed faces are told with their boxes, and restored to the bit by the passcode alone."""
    image = photo(64, 64)
    sealed = client.anonymize(
        image, method="solid", passcode="correct hörse", faces=[(8, 8, 40, 40)]
    )
    (face,) = sealed.faces
    assert (sealed.sealed, face.method, face.confidence) == (True, "solid", None)
    assert len(face.box) == 4
    assert sealed.timings_ms.keys() >= {"decode", "seal"}
    with pytest.raises(anamorph.WrongPasscode) as raised:
        client.restore(sealed.data, passcode="another")
    assert (raised.value.status, raised.value.code) == (403, "wrong_passcode")
    restored = client.restore(sealed.data, passcode="correct hörse")
    assert restored.restored == "exact"
    assert np.array_equal(np.asarray(restored.image()), np.asarray(image))


def test_what_is_refused_is_raised(client: Client, tmp_path: Path) -> None:
    """A problem of the service is the exception of its code, with its text and faulty fields."""
    with pytest.raises(anamorph.errors.CorruptImage):
        client.upscale(encoded(photo())[:60])
    with pytest.raises(anamorph.NotFound, match="facades"):  # names what there is
        client.translate(photo(), model="nothing")
    with pytest.raises(anamorph.NotFound):
        client.get_model("../models")
    with pytest.raises(anamorph.errors.InvalidParameter) as raised:
        client.upscale(photo(), scale=9)  # type: ignore[arg-type]
    assert raised.value.errors[0]["field"] == "scale"


def test_models_and_versions(client: Client, home: Path) -> None:
    """Models are listed, versions promoted, rolled back and deleted."""
    assert {model.name for model in client.list_models()} >= {"facades", "srresnet-x4"}
    assert client.get_model("facades").family == "pix2pix"
    assert client.health() == {"status": "ok"}
    assert "facades@1" in client.readiness().models
    publish_models(home, ("starry-night",))
    assert client.promote("starry-night", 2).version == 2
    assert client.rollback("starry-night").version == 1
    assert [v.promoted for v in client.list_versions("starry-night")] == [True, False]
    with pytest.raises(anamorph.errors.ModelProtected):
        client.delete_version("starry-night", 1)
    assert client.delete_version("starry-night", 2) is None
    assert len(client.list_versions("starry-night")) == 1


def test_from_a_zip_to_a_watched_job(client: Client, home: Path, archive: Path) -> None:
    """Data are uploaded and looked at; a job is created, watched live, cancelled and resumed."""
    data = client.upload_dataset(archive, name="pairs", kind="paired")
    assert client.upload_dataset(archive.read_bytes(), name="pairs", kind="paired") == data
    assert sum(data.counts.values()) == 6
    assert client.get_dataset(data.id) == data
    assert [listed.id for listed in client.list_datasets()] == [data.id]
    assert client.contact_sheet(data.id).image().format == "PNG"

    job = client.create_job(
        family="pix2pix", dataset=data.id, name="tiny", steps=5, hyperparameters=TINY
    )
    assert (job.state, job.position, job.request["steps"]) == ("queued", 1, 5)
    assert [listed.id for listed in client.list_jobs(limit=5)] == [job.id]
    with pytest.raises(anamorph.errors.DatasetInUse):
        client.delete_dataset(data.id)

    folder = JobFolder(home, job.id)
    (folder.path / "samples").mkdir(parents=True)
    (folder.path / "samples" / "000002.png").write_bytes(encoded(photo()))
    folder.losses_file.write_text('{"step": 1, "l1": 0.5}\n{"step": 2, "l1": 0.4}\n')
    folder.append("state", state="running")
    kinds = []
    for event in client.job_events(job.id):
        kinds.append((event.kind, event.id))
        if event.id == 1:
            folder.append("sample", step=2)
        if event.id == 2:
            client.cancel_job(job.id)
    assert kinds == [("state", 1), ("sample", 2), ("end", None)]
    assert event.job
    assert event.job.state == client.get_job(job.id).state == "cancelled"
    assert client.list_samples(job.id) == [2]
    assert client.sample_grid(job.id, 2).image().size == photo().size
    assert client.loss_curves(job.id).image().format == "PNG"
    with pytest.raises(anamorph.errors.JobNotFound):
        client.sample_grid(job.id, 3)
    assert client.resume_job(job.id).state == "queued"
    client.cancel_job(job.id)
    client.delete_dataset(data.id)
    assert client.list_datasets() == []


@asynccontextmanager
async def in_process(home: Path) -> AsyncIterator[AsyncClient]:
    """A client of the app itself, started and stopped around it."""
    app = create_app(tiny_settings(home))
    async with (
        app.router.lifespan_context(app),
        AsyncClient("http://test", transport=httpx.ASGITransport(app)) as client,
    ):
        for _ in range(2400):
            try:
                await client.readiness()
                break
            except anamorph.NotReady:
                await asyncio.sleep(0.05)
        yield client


def test_async_by_asgi(home: Path, archive: Path) -> None:
    """AsyncClient does the same: pictures side by side, data, a job and its events, problems."""

    async def use() -> None:
        async with in_process(home) as client:
            large, painted, sealed = await asyncio.gather(
                client.upscale(photo(10, 20)),
                client.stylize(encoded(photo(10, 20)), style="starry-night"),
                client.anonymize(
                    photo(32, 32), method="solid", passcode="p", faces=[(4, 4, 20, 20)]
                ),
            )
            assert large.image().size == (80, 40)
            assert painted.model == "starry-night@1"
            assert sealed.sealed
            assert (await client.restore(bytes(sealed), passcode="p")).restored == "exact"
            with pytest.raises(anamorph.NotFound):
                await client.get_model("nothing")
            data = await client.upload_dataset(archive, name="pairs", kind="paired")
            job = await client.create_job(
                family="pix2pix", dataset=data.id, name="t", steps=5, hyperparameters=TINY
            )
            await client.cancel_job(job.id)
            (end,) = [event async for event in client.job_events(job.id)]
            assert end.job
            assert end.job.state == "cancelled"
            await client.delete_dataset(data.id)

    asyncio.run(use())
