"""The client package by itself, held against what the service says of itself."""

from __future__ import annotations

import inspect
import itertools
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

import anamorph
from anamorph import AsyncClient, Client, errors, image_calls, records, service_calls
from anamorph import training_calls as training
from anamorph.call import Call, segment
from anamorph.events import Event, EventParser, Replay
from anamorph.pictures import PictureFile, file_bytes
from anamorph.retries import Retries
from app.error_codes import INTERNAL, KINDS, OUT_OF_MEMORY
from app.main import create_app
from app.schemas import datasets as datasets_schemas
from app.schemas import models as models_schemas
from app.schemas import pictures as pictures_schemas
from app.schemas import service as service_schemas
from app.schemas import training as training_schemas
from conftest import ROOT
from tiny import encoded, photo, tiny_settings

# Answered in the shape of another service's API, for that one's clients.
FOREIGN = {"/v1/images/edits"}
CODES = {kind.code for kind in (*KINDS.values(), INTERNAL, OUT_OF_MEMORY)}
SAMPLES = {"image": b"x", "file": b"x", "version": 1, "step": 1, "passcode": "p"}


def builders() -> dict[str, Callable[..., Call[Any]]]:
    """What makes the calls, by the name of the method that sends them."""
    modules = (image_calls, service_calls, training)
    return {
        name: function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name in vars(Client)
    }


def sample_call(build: Callable[..., Call[Any]]) -> Call[Any]:
    parameters = inspect.signature(build).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty]
    return build(**{name: SAMPLES.get(name, "a" * 32) for name in needed})


@pytest.mark.parametrize("code", sorted(CODES | {"not_found", "method_not_allowed"}))
def test_every_code_has_its_exception(code: str) -> None:
    """Each code that the service answers with is a class of its own, found by its name."""
    cls = errors.class_of(code)
    assert cls.code == code
    assert getattr(errors, code.title().replace("_", "")) is cls
    assert issubclass(cls, anamorph.AnamorphError)


@pytest.mark.parametrize("status", [400, 405, 406, 415, 421, 422])
def test_a_code_of_a_later_service(status: int) -> None:
    """An unknown code, or none, as proxies answer, is the class for its status."""
    assert errors.class_of("from_the_future", status) is errors.Invalid


@pytest.mark.parametrize("name", [".", "..", "../x", "a/b", "a?b"])
def test_a_name_stays_in_its_place(name: str) -> None:
    """No name leads a call to another path than its own."""
    url = httpx.URL("http://host/v1/models/").join(f"./{segment(name)}/versions")
    assert url.raw_path.startswith(b"/v1/models/")
    assert url.raw_path.count(b"/") == 4


def test_an_exception_has_all_of_the_problem() -> None:
    """Code, status, texts, faulty parameters and the time of the next try are attributes."""
    faults = [{"field": "scale", "message": "too large"}]
    problem = {"code": "queue_full", "detail": "no room", "errors": faults, "verdict": {"a": 1}}
    answer = httpx.Response(503, json=problem, headers={"X-Request-ID": "r"})
    error = errors.error_of(answer, 3.0)
    assert type(error) is errors.QueueFull
    assert isinstance(error, anamorph.Busy)
    assert (error.code, error.status, error.detail) == ("queue_full", 503, "no room")
    assert (str(error), error.errors, error.problem) == ("no room", faults, problem)
    assert (error.retry_after_s, error.request_id) == (3.0, "r")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), vars(copy)) == (type(error), vars(error))


@pytest.mark.parametrize(
    ("answer", "cls", "code"),
    [
        (httpx.Response(409, json={"code": "brand_new"}), anamorph.Conflict, "brand_new"),
        (httpx.Response(418, json={"code": "teapot"}), anamorph.AnamorphError, "teapot"),
        (httpx.Response(503, text="<h1>proxy</h1>"), anamorph.Busy, "http_503"),
        (httpx.Response(404, json=["x"]), anamorph.NotFound, "http_404"),
        (httpx.Response(301), anamorph.AnamorphError, "http_301"),
    ],
)
def test_other_answers_are_told_by_their_status(
    answer: httpx.Response, cls: type[Exception], code: str
) -> None:
    """A code of a newer service, or a proxy's page, raises the class of the status."""
    error = errors.error_of(answer, None)
    assert (type(error), error.code) == (cls, code)


def test_every_route_has_a_method(tmp_path: Path) -> None:
    """Every operation below /v1 is called by a method, and every call is an operation."""
    paths = create_app(tiny_settings(tmp_path)).openapi()["paths"]
    offered = {
        (verb.upper(), path)
        for path, verbs in paths.items()
        for verb in verbs
        if path not in FOREIGN | {"/metrics"}
    }
    calls = [sample_call(build) for build in builders().values()]
    sent = {(call.method, call.path) for call in calls}
    events = Replay("a" * 32, 0, Retries()).request(httpx.Timeout(1))
    sent.add((events["method"], events["url"]))

    def of(method: str, sent_path: str) -> tuple[str, str]:
        # The longest: /contact.png is no id.
        fits = [p for m, p in offered if m == method and matches(p, sent_path)]
        return method, max(fits, key=len, default=f"no route: {sent_path}")

    def matches(template: str, path: str) -> bool:
        return bool(re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path))

    assert {of(*call) for call in sent} == offered


@pytest.mark.parametrize(
    ("build", "params", "besides"),
    [
        (image_calls.translate, pictures_schemas.TranslateParams, {"image"}),
        (image_calls.upscale, pictures_schemas.UpscaleParams, {"image"}),
        (image_calls.stylize, pictures_schemas.StylizeParams, {"image"}),
        (image_calls.anonymize, pictures_schemas.AnonymizeParams, {"image"}),
        (image_calls.restore, pictures_schemas.RestoreParams, {"image"}),
        (training.upload_dataset, datasets_schemas.DatasetParams, {"file"}),
        (training.create_job, training_schemas.TrainingRequest, {"idempotency_key"}),
    ],
)
def test_a_method_takes_what_its_route_takes(build, params, besides: set[str]) -> None:
    """The arguments of a method are the parameters of its route, by the same names."""
    assert set(inspect.signature(build).parameters) - besides == set(params.model_fields)


@pytest.mark.parametrize(
    ("record", "schema"),
    [
        (records.Limits, service_schemas.ServiceLimits),
        (records.Readiness, service_schemas.Readiness),
        (records.Model, models_schemas.ModelSummary),
        (records.ModelDetails, models_schemas.ModelDetails),
        (records.Version, models_schemas.VersionSummary),
        (records.Dataset, datasets_schemas.DatasetSummary),
        (records.DatasetDetails, datasets_schemas.DatasetDetails),
        (records.Job, training_schemas.JobSummary),
        (records.JobDetails, training_schemas.JobDetails),
        (records.Progress, training_schemas.JobProgress),
        (records.JobFailure, training_schemas.JobError),
    ],
)
def test_records_have_what_the_service_tells(record, schema) -> None:
    """Every field of a record is one that the service sends."""
    assert set(record.__dataclass_fields__) <= set(schema.model_fields)


def test_a_key_is_told_of_readiness_alone() -> None:
    """Where keys are asked for, a service says to all but an admin only that it is ready."""
    assert records.read_as(records.Readiness, {"status": "ready"}).models is None


def test_records_ignore_what_they_do_not_know() -> None:
    """A field of a newer service is no error; one that is missing is."""
    told = {"id": "a", "state": "queued", "family": "f", "name": "n", "dataset": "d"}
    told |= {"created_at": "2026-01-02T03:04:05Z", "error": {"code": "c", "detail": "d"}}
    call = training.list_jobs()
    (job,) = call.finish(httpx.Response(200, json=[told | {"colour": "red"}]))
    assert (job.created_at.year, job.error) == (2026, records.JobFailure("c", "d"))
    for body in ([{"id": "a"}], {"id": "a"}, ["a"], None):
        with pytest.raises(anamorph.UnexpectedAnswer):
            call.finish(httpx.Response(200, json=body))
    with pytest.raises(anamorph.UnexpectedAnswer):
        sample_call(image_calls.upscale).finish(httpx.Response(200, text="<h1>hello</h1>"))


def test_both_clients_have_the_same_methods() -> None:
    """What Client does, AsyncClient does with the same arguments, and help shows them."""

    def methods(cls: type) -> dict[str, list[str]]:
        public = (name for name in vars(cls) if not name.startswith("_"))
        return {name: list(inspect.signature(vars(cls)[name]).parameters) for name in public}

    mine, its = methods(Client), methods(AsyncClient)
    assert mine.pop("close") == its.pop("aclose")
    assert mine == its
    assert set(builders()) | {"job_events", "send"} == set(mine)
    signature = str(inspect.signature(Client.upscale))
    assert signature.startswith("(self, image")
    assert signature.endswith("-> 'Answer'")
    assert "Enlarge" in (Client.upscale.__doc__ or "")


def test_a_new_key_for_every_job() -> None:
    """Each job that is created has an Idempotency-Key of its own, unless one is given."""

    def key(**given: str) -> str:
        call = training.create_job(family="srgan", dataset="d", name="n", **given)
        return call.headers["Idempotency-Key"]

    assert key() != key()
    assert key(idempotency_key="monday") == "monday"


def test_only_what_may_be_repeated_is(tmp_path: Path) -> None:
    """A rollback or a deletion is never sent again, nor is a probe; all else is."""
    once = {name for name, build in builders().items() if not sample_call(build).repeatable}
    assert once == {"rollback", "delete_version", "delete_dataset", "health", "readiness"}


def test_pictures_come_as_paths_bytes_or_images(tmp_path: Path) -> None:
    """A path by its content, bytes as they are."""
    data = encoded(photo(4, 5), "jpeg")
    path = tmp_path / "private name.jpg"
    path.write_bytes(data)
    for picture in (path, str(path), data, bytearray(data), memoryview(data)):
        assert file_bytes(picture) == data
    with pytest.raises(FileNotFoundError):
        file_bytes(tmp_path / "none.jpg")
    with pytest.raises(TypeError, match="ndarray"):
        file_bytes(np.zeros((4, 4, 3)))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"])
def test_an_image_goes_without_loss(mode: str) -> None:
    """A Pillow image is sent as a PNG of the same pixels."""
    if mode.startswith("I;16"):
        levels = np.arange(0, 60_000, 3_000, ">u2" if mode == "I;16B" else "<u2")
        image = Image.frombytes(mode, (5, 4), levels.tobytes())
    else:
        image = photo(4, 5).convert(mode)
    sent = Image.open(BytesIO(file_bytes(image)))
    assert (sent.format, sent.size) == ("PNG", (5, 4))
    assert np.array_equal(np.asarray(sent), np.asarray(image))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("CMYK", "RGB"), ("YCbCr", "RGB"), ("LAB", "RGB"), ("RGBa", "RGBA"), ("La", "LA")],
)
def test_other_modes_become_rgb(mode: str, expected: str) -> None:
    """What PNG cannot hold goes as RGB, without the profile of its old colours."""
    image = Image.new(mode, (3, 2))
    image.info["icc_profile"] = b"of ink"
    sent = Image.open(BytesIO(file_bytes(image)))
    assert sent.mode == expected
    assert "icc_profile" not in sent.info


def test_numbers_are_no_picture() -> None:
    """32-bit integers go as 16 bits where they fit, and are refused like floats where not."""
    wide = np.array([[0, 0xFFFF]], np.int32)
    assert np.array_equal(np.asarray(Image.open(BytesIO(file_bytes(Image.fromarray(wide))))), wide)
    for numbers in (wide + 1, wide - 1, wide.astype(np.float32)):
        with pytest.raises(TypeError, match="convert"):
            file_bytes(Image.fromarray(numbers))


def test_a_picture_goes_upright() -> None:
    """A photo that was taken sideways is sent as it is shown."""
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    with Image.open(BytesIO(encoded(photo(4, 5), "jpeg", exif=turned))) as image:
        sent = Image.open(BytesIO(file_bytes(image)))
    assert sent.size == (4, 5)
    assert not sent.getexif()


def test_a_picture_comes_as_bytes_file_or_image(tmp_path: Path) -> None:
    """What is saved is what came, to the byte."""
    picture = PictureFile(encoded(photo(4, 5)), "image/png")
    assert picture.save(tmp_path / "x.png").read_bytes() == bytes(picture) == picture.data
    assert picture.image().size == (5, 4)
    large = Image.new("1", (13_500, 13_500))  # above what Image.open takes without being told
    assert PictureFile(encoded(large), "image/png").image().size == large.size
    assert "data" not in repr(picture)


def test_it_needs_httpx_alone() -> None:
    """Importing the client loads nothing of the service, nor numpy, Pillow or pydantic."""
    code = (
        "import sys, anamorph; anamorph.Client().close();"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"app", "models", "fastapi", "starlette", "numpy", "PIL", "pydantic", "torch"}
    assert not heavy & set(done.stdout.split())


def test_it_is_typed() -> None:
    """The package says to type checkers that it has types."""
    assert (ROOT / "anamorph" / "py.typed").is_file()


EVENTS = [
    Event("state", {"state": "running"}, 1),
    Event("progress", {"figures": {"l1": 0.5}, "note": "line\u2028separator\x85"}, 2),
    Event("end", {"state": "succeeded"}, None),
]


def stream_of(events: list[Event], end: str) -> bytes:
    lines = [": ping", ""]
    for event in events:
        lines += [f"event: {event.kind}", f"data: {json.dumps(event.data, ensure_ascii=False)}"]
        lines += [f"id: {event.id}", ""] if event.id else [""]
    return (end.join(lines) + end).encode()


@given(st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 200), max_size=20))
def test_a_stream_is_read_however_it_is_cut(end: str, cuts: list[int]) -> None:
    """Events come out whole wherever the network cuts the bytes, with any of the line ends."""
    data = stream_of(EVENTS, end) + b"x"  # a last \r is half of a line end until more comes
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    parser = EventParser()
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert [event for piece in pieces for event in parser.feed(piece)] == EVENTS


def test_a_stream_of_something_else_is_told() -> None:
    """Data that is no JSON object raises UnexpectedAnswer."""
    for line in (b"data: 1\n\n", b"data: {\n\n", b"data: {}\nid: x\n\n", b"\xff\n"):
        with pytest.raises(anamorph.UnexpectedAnswer):
            list(Replay("a", 0, Retries()).take(line))
