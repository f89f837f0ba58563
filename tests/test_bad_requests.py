"""What a hostile or mistaken client may send: a stable 4xx code, and the next request is served."""

from __future__ import annotations

import random
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app.engines
from app.main import create_app
from tiny import assert_problem, encoded, photo, publish_models, tiny_settings, until_ready

MAX_PIXELS, MAX_SIDE, MAX_OUTPUT_PIXELS, MAX_UPLOAD_BYTES = 10_000, 512, 120_000, 200_000
PNG = encoded(photo(8, 8))


@pytest.fixture(scope="module")
def bare_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    publish_models(home, ("facades", "srresnet-x4", "starry-night"))
    limits = {
        "max_pixels": MAX_PIXELS,
        "max_side": MAX_SIDE,
        "max_output_pixels": MAX_OUTPUT_PIXELS,
        "max_upload_bytes": MAX_UPLOAD_BYTES,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.engines, "openvino", None)  # as on a machine without its wheel
        with TestClient(create_app(tiny_settings(home, **limits))) as client:
            until_ready(client)
            yield client


@pytest.fixture
def client(bare_client: TestClient) -> Iterator[TestClient]:
    yield bare_client
    after = bare_client.post("/v1/upscale", content=PNG)
    assert after.status_code == 200, "the request after a bad one must be served"


def png_claiming(
    width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b""
) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        *(
            ("/v1/upscale", {"scale": value})
            for value in ("0", "-1", "1", "5", "1.5", "1e9", "NaN")
        ),
        *(("/v1/upscale", {"scale": value}) for value in ("true", "[4]", "", "four", "9" * 5000)),
        *(
            ("/v1/upscale", {"detail": value})
            for value in ("-0.1", "1.1", "nan", "inf", "1e309", "")
        ),
        *(("/v1/upscale", {"quality": value}) for value in ("0", "101", "x")),
        *(("/v1/upscale", {"format": value}) for value in ("bmp", "svg", "../x", "PNG\0", "")),
        ("/v1/upscale", {"unknown": "1"}),
        ("/v1/upscale", {"image": "text"}),
        ("/v1/stylize", {"style": "starry-night", "strength": "2"}),
        ("/v1/stylize", {"style": "starry-night", "keep_colors": "perhaps"}),
        ("/v1/stylize", {}),
        ("/v1/translate", {}),
        *(
            ("/v1/translate", {"model": name})
            for name in (
                *("../facades", "..%2ffacades", "/etc/passwd", "\\\\?\\facades", "facades.", "CON"),
                *(
                    "facades\0",
                    "f\u0430cades",
                    "a" * 1000,
                    "facades\r\nX-Evil: 1",
                    "facades@",
                    "@1",
                ),
                *("facades@1@1", "facades@-1", "facades@99999999", " facades", ""),
            )
        ),
    ],
)
def test_invalid_parameters_are_named(client: TestClient, url: str, fields: dict[str, str]) -> None:
    """A parameter out of its range, unknown or malformed is a 422 that names it, both ways."""
    raw = client.post(url, params=fields, content=PNG)
    assert_problem(raw, 422, "invalid_parameter")
    assert raw.json()["errors"]
    if "image" not in fields and max(map(len, fields.values()), default=0) < 4096:
        form = client.post(url, data=fields, files={"image": PNG})
        assert_problem(form, 422, "invalid_parameter")


@pytest.mark.parametrize("value", ["srresnet-x4", "starry-night"])
def test_a_model_of_another_task_is_refused(client: TestClient, value: str) -> None:
    """A model serves one endpoint only, and the answer says which."""
    response = client.post("/v1/translate", params={"model": value}, content=PNG)
    assert_problem(response, 422, "wrong_task")
    assert "/v1/" in response.json()["detail"]


@pytest.mark.parametrize("value", ["nothing", "facades@0", "facades@2", "facades@999999"])
def test_an_unknown_model_is_a_404(client: TestClient, value: str) -> None:
    """A well-formed name or version that is not served is not found."""
    response = client.post("/v1/translate", params={"model": value}, content=PNG)
    assert_problem(response, 404, "model_not_found")
    assert_problem(client.get(f"/v1/models/{value}"), 404, "model_not_found")


def test_detail_needs_a_pair(client: TestClient) -> None:
    """Without an adversarial network, detail above 0 is refused instead of ignored."""
    response = client.post("/v1/upscale", params={"detail": 0.5}, content=PNG)
    assert_problem(response, 422, "invalid_parameter")


def test_a_parameter_twice_is_refused(client: TestClient) -> None:
    """Given twice, in one place or in two, a parameter is ambiguous."""
    twice = client.post("/v1/upscale?scale=2&scale=4", content=PNG)
    both = client.post("/v1/upscale?scale=2", data={"scale": "2"}, files={"image": PNG})
    assert_problem(twice, 422, "invalid_parameter")
    assert_problem(both, 422, "invalid_parameter")


UNSUPPORTED = {
    "a byte": b"x",
    "text": b"hello there, this is no image",
    "json": b'{"image": "AAAA"}',
    "html": b"<!DOCTYPE html><script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "ppm": b"P6 13000 13000 255 ",
    "xbm": b"#define a_width 60000\n#define a_height 2000\nstatic char a_bits[] = {",
    "zip": b"PK\x03\x04" + bytes(60),
    "bmp": encoded(photo(4, 4), "bmp"),
    "ico": b"\0\0\1\0\1\0\1\1\0\0\1\0\x20\0" + bytes(40),
    "psd": b"8BPS\0\1" + bytes(40),
    "nul bytes": bytes(1000),
}


@pytest.mark.parametrize("data", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_other_content_is_unsupported(client: TestClient, data: bytes) -> None:
    """The content decides, not the name nor the declared type."""
    named = client.post("/v1/upscale", files={"image": ("a.png", data, "image/png")})
    assert_problem(named, 415, "unsupported_image")
    assert_problem(client.post("/v1/upscale", content=data), 415, "unsupported_image")


BOMBS = {
    "a line of 150 million pixels": png_claiming(1, 150_000_000),
    "2**31 - 1 squared": png_claiming(2**31 - 1, 2**31 - 1),
    "50,000 squared": png_claiming(50_000, 50_000, depth=1),
    "9,400 squared, one bit": png_claiming(9400, 9400, 1, data=bytes(1176 * 9400)),
    "gif of 9,000 squared": b"GIF89a" + struct.pack("<HH", 9000, 9000) + b"\x80\0\0" + bytes(6)
    + b"," + struct.pack("<HHHH", 0, 0, 9000, 9000) + b"\0\x02\x02\x4c\x01\0;",
    "one pixel too many": encoded(photo(73, 137)),
    "one side too long": encoded(photo(1, MAX_SIDE + 1)),
    "the answer too large": encoded(photo(100, 76)),
}  # fmt: skip


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused_by_their_header(client: TestClient, data: bytes) -> None:
    """A picture beyond a limit is refused before its pixels exist, and the limit is named."""
    process = psutil.Process()
    before = process.memory_info().rss
    response = client.post("/v1/upscale", content=data)
    assert_problem(response, 413, "image_too_large")
    assert any(character.isdigit() for character in response.json()["detail"])
    assert process.memory_info().rss - before < 64 * 2**20


@pytest.mark.parametrize("size", [(100, 75), (1, MAX_SIDE), (MAX_SIDE, 1)])
def test_exactly_at_a_limit_is_served(client: TestClient, size: tuple[int, int]) -> None:
    """A limit is the largest that is allowed."""
    assert client.post("/v1/upscale", content=encoded(photo(*size))).status_code == 200


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "tiff", "avif"])
def test_damaged_files_never_break_the_service(client: TestClient, kind: str) -> None:
    """Cut or flipped bytes give a picture or a 4xx problem."""
    whole = encoded(photo(16, 16), kind)
    chance = random.Random(kind)
    damaged = [whole[: len(whole) * i // 16] for i in range(1, 16)]
    for _ in range(25):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(flipped))
    for data in damaged:
        response = client.post("/v1/upscale?format=png", content=data)
        if response.status_code != 200:
            assert response.status_code in (413, 415, 422), response.text
            assert response.json()["code"]


@pytest.mark.parametrize(
    "send", [{"content": b""}, {"files": {"image": b""}}, {"files": {"other": PNG}}]
)
def test_without_a_picture(client: TestClient, send: dict[str, Any]) -> None:
    """An empty body, an empty file and a file in another field are no image."""
    assert_problem(client.post("/v1/upscale", **send), 422, "missing_image")


def multipart(*parts: bytes, boundary: bytes = b"xxx") -> dict[str, Any]:
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return {
        "content": body + b"--" + boundary + b"--\r\n",
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"},
    }


def part(data: bytes = PNG, disposition: bytes = b'name="image"; filename="a"') -> bytes:
    return b"Content-Disposition: form-data; " + disposition + b"\r\n\r\n" + data


MULTIPART: dict[str, tuple[dict[str, Any], int, str]] = {
    "two images": (multipart(part(), part()), 422, "several_images"),
    "two files": (
        multipart(part(), part(b"x", b'name="mask"; filename="b"')), 422, "several_images"),
    "image as text": (multipart(part(b"x", b'name="image"')), 422, "missing_image"),
    "no parts": (multipart(), 422, "missing_image"),
    "1,001 parts": (multipart(*[part(b"1", b'name="a"')] * 1001), 400, "bad_multipart"),
    "1,001 files": (multipart(*[part(b"1")] * 1001), 400, "bad_multipart"),
    "a long field": (multipart(part(b"1" * 99_999, b'name="scale"'), part()), 400, "bad_multipart"),
    "part without a name": (multipart(part(PNG, b'filename="a"')), 400, "bad_multipart"),
    "no boundary": (
        {"content": PNG, "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_multipart"),
    "another boundary": (
        multipart(part()) | {"headers": {"Content-Type": "multipart/form-data; boundary=yyy"}},
        400, "bad_multipart"),
    "not multipart at all": (
        {"content": PNG, "headers": {"Content-Type": "multipart/form-data; boundary=xxx"}},
        400, "bad_multipart"),
    "cut short": (
        {
            "content": multipart(part())["content"][:-40],
            "headers": {"Content-Type": "multipart/form-data; boundary=xxx"},
        }, 400, "bad_multipart"),
    "a long header": (multipart(b"X: " + b"y" * 100_000 + b"\r\n" + part()), 400, "bad_multipart"),
    "a boundary of 4,000": (
        {
            "content": PNG,
            "headers": {"Content-Type": "multipart/form-data; boundary=" + "x" * 4000},
        }, 400, "bad_multipart"),
    "an odd charset": (
        {
            "content": multipart(part(), part(b"\xff\xfe", b'name="scale"'))["content"],
            "headers": {"Content-Type": "multipart/form-data; boundary=xxx; charset=idna"},
        }, 422, "invalid_parameter"),
    "multipart/mixed": (
        multipart(part()) | {"headers": {"Content-Type": "multipart/mixed; boundary=xxx"}},
        415, "unsupported_image"),
}  # fmt: skip


@pytest.mark.parametrize(("send", "status", "code"), MULTIPART.values(), ids=MULTIPART)
def test_odd_multipart(client: TestClient, send: dict[str, Any], status: int, code: str) -> None:
    """A multipart body that is not one file `image` and known fields is refused."""
    assert_problem(client.post("/v1/upscale", **send), status, code)


@pytest.mark.parametrize("field", ["faces", "model", r"\ud800"])
def test_fields_that_are_no_text(client: TestClient, field: str) -> None:
    """A field or name that its charset makes half a surrogate pair is a parameter that is wrong."""
    sent = multipart(part(), part(rb"\ud800", f'name="{field}"'.encode()))
    sent["headers"]["Content-Type"] += "; charset=unicode_escape"
    assert_problem(client.post("/v1/anonymize", **sent), 422, "invalid_parameter")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "C:\\x",
        "a\0.png",
        "a" * 3000,
        "\U0001f600.png",
        "a%0d%0aX: 1",
        'a"b',
        ".",
    ],
)
def test_file_names_mean_nothing(client: TestClient, name: str) -> None:
    """Whatever a file is called, only its content counts."""
    disposition = b'name="image"; filename="' + name.replace('"', '\\"').encode() + b'"'
    assert client.post("/v1/upscale", **multipart(part(PNG, disposition))).status_code == 200


def test_long_bodies_are_refused(client: TestClient) -> None:
    """Beyond max_upload_bytes a body is refused, whether its length is declared or not."""
    declared = client.post("/v1/upscale", content=bytes(MAX_UPLOAD_BYTES + 1))
    chunked = client.post("/v1/upscale", content=(bytes(1000) for _ in range(MAX_UPLOAD_BYTES)))
    form = client.post("/v1/upscale", files={"image": bytes(MAX_UPLOAD_BYTES)})
    for response in (declared, chunked, form):
        assert_problem(response, 413, "upload_too_large")
        assert f"{MAX_UPLOAD_BYTES:,}" in response.json()["detail"]


@pytest.mark.parametrize("url", ["/v1/training-jobs", "/v1/models/facades/promote"])
def test_long_json_is_refused(client: TestClient, url: str) -> None:
    """JSON, which is parsed before anything else is known, is short."""
    declared = client.post(url, content=b"[" * (256 * 1024 + 1))
    chunked = client.post(url, content=(b"[" * 1024 for _ in range(257)))
    for response in (declared, chunked):
        assert_problem(response, 413, "upload_too_large")
        assert "of JSON" in response.json()["detail"]


def test_many_parameters(client: TestClient) -> None:
    """Thousands of parameters, one of them twice, are refused without counting them all out."""
    query = "&".join(["style=a", "style=b", *(format(number, "x") for number in range(13_000))])
    began = time.monotonic()
    assert_problem(client.post(f"/v1/stylize?{query}", content=PNG), 422, "invalid_parameter")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("method", "url", "headers", "status", "code"),
    [
        ("POST", "/v1/upscale", {"Content-Encoding": "gzip"}, 415, "unsupported_encoding"),
        ("POST", "/v1/upscale", {"Accept": "text/html"}, 406, "not_acceptable"),
        ("POST", "/v1/upscale", {"Accept": "image/*;q=0"}, 406, "not_acceptable"),
        ("POST", "/v1/upscale", {"Accept": ";;,q=,/"}, 406, "not_acceptable"),
        ("GET", "/v1/upscale", {}, 405, "method_not_allowed"),
        ("PUT", "/v1/upscale", {}, 405, "method_not_allowed"),
        ("TRACE", "/v1/upscale", {}, 405, "method_not_allowed"),
        ("DELETE", "/v1/models/facades", {}, 405, "method_not_allowed"),
        ("POST", "/v1/nothing", {}, 404, "not_found"),
        ("GET", "/v1/models/%2e%2e%2fhome", {}, 404, "not_found"),
        ("GET", "/v1/models/..%5cx", {}, 404, "model_not_found"),
        ("GET", "/v1/models/%00", {}, 404, "model_not_found"),
        ("GET", "/v1/models/facades@x", {}, 404, "model_not_found"),
        ("GET", "/no//thing", {}, 404, "not_found"),
    ],
)
def test_odd_requests(client: TestClient, method, url, headers, status, code) -> None:
    """Other methods, paths, encodings and Accept headers are problems too."""
    response = client.request(method, url, headers=headers, content=PNG)
    assert_problem(response, status, code)


@given(
    fields=st.dictionaries(
        st.sampled_from(["scale", "detail", "model", "format", "quality", "x"])
        | st.text(max_size=9),
        st.text(max_size=30),
        max_size=4,
    ),
    accept=st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=30),
    content_type=st.sampled_from(["image/png", "multipart/form-data; boundary=x", "text/plain"]),
    data=st.sampled_from([PNG, b""]) | st.binary(max_size=200),
)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_nothing_is_a_500(bare_client: TestClient, fields, accept, content_type, data) -> None:
    """Whatever the parameters, headers and body, the answer is a picture or a 4xx problem."""
    headers = {"Accept": accept, "Content-Type": content_type}
    response = bare_client.post("/v1/upscale", params=fields, headers=headers, content=data)
    assert response.status_code < 500, response.text
