"""Reading one file and its parameters from a request, whichever way they were sent."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.errors import (
    BadMultipart,
    InvalidParameter,
    MissingImage,
    SeveralImages,
    UnsupportedEncoding,
    UploadTimeout,
)
from app.schemas.pictures import PictureParams, header_of, secret_fields

P = TypeVar("P", bound=BaseModel)
Q = TypeVar("Q", bound=PictureParams)

_MAX_FIELDS = 32


class _Parser(MultiPartParser):
    """Starlette's, but a body without its closing boundary is an error that closes its files.

    Files stay in memory, where the budget counts them, and fill no disk that it knows nothing of.
    """

    spool_max_size = sys.maxsize

    def __init__(
        self, request: Request, max_field_bytes: int = PictureParams.max_field_bytes
    ) -> None:
        super().__init__(
            request.headers,
            self._to_the_end(request),
            max_files=_MAX_FIELDS,
            max_fields=_MAX_FIELDS,
            max_part_size=max_field_bytes,
        )
        self._ended = False

    def on_end(self) -> None:
        self._ended = True

    async def _to_the_end(self, request: Request) -> AsyncGenerator[bytes, None]:
        async for chunk in request.stream():
            yield chunk
        if not self._ended:
            raise MultiPartException("The multipart body ends early.")


class _ToDisk(_Parser):
    """Writes the one file of a form, in the field `file`, to `target` as it arrives."""

    def __init__(self, request: Request, target: Path) -> None:
        super().__init__(request)
        self._target = target

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if part := self._current_part.file:
            if self._current_part.field_name != "file" or self._current_files > 1:
                raise InvalidParameter("send one file, in the field `file`")
            part.file.close()
            part.file = self._target.open("x+b")
            self._files_to_close_on_error[-1] = part.file  # type: ignore[call-overload]


async def read_file(request: Request, params: type[P], target: Path, timeout_s: float) -> P:
    """Write the file of a form to `target` and return the validated other fields.

    Memory does not depend on the file's length. Raises as `read_upload`, and OSError.
    """
    _refuse_compressed(request)
    if not _is_multipart(request):
        raise InvalidParameter("send a multipart form with a file in the field `file`")
    async with _arriving_within(timeout_s):
        form = await _parsed(_ToDisk(request, target))
    await form.close()
    texts = _texts_of(form)
    if len(texts) == len(form.multi_items()):
        raise InvalidParameter("send a file in the field `file`")
    return _validated([*request.query_params.multi_items(), *texts], params)


async def read_upload(request: Request, params: type[Q], timeout_s: float) -> tuple[bytes, Q]:
    """Return the image's bytes and the validated parameters.

    The image is the file of a multipart form, or else the whole body; parameters are
    form fields or query parameters, secrets form fields or headers. Raises the ServiceErrors that
    name what is wrong with them.
    """
    _refuse_compressed(request)
    fields = _outside_the_body(request, params)
    if not _is_multipart(request):
        values = _validated(fields, params)  # a fault here spares us the body
    async with _arriving_within(timeout_s):
        if _is_multipart(request):
            data, form_fields = await _read_form(request, params)
            values = _validated(fields + form_fields, params)
        else:
            data = await request.body()
    if not data:
        raise MissingImage("the image is empty")
    return data, values


@contextlib.asynccontextmanager
async def _arriving_within(timeout_s: float) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise UploadTimeout(f"the body did not arrive within {timeout_s:g} s") from None


def _texts_of(form: FormData) -> list[tuple[str, str]]:
    return [(name, part) for name, part in form.multi_items() if isinstance(part, str)]


def _outside_the_body(request: Request, params: type[BaseModel]) -> list[tuple[str, str]]:
    fields = list(request.query_params.multi_items())
    for name in secret_fields(params):
        header = header_of(name)
        if name in request.query_params:
            raise InvalidParameter(
                f"{name}: URLs end up in logs; send it as a form field or in the header {header}"
            )
        for value in request.headers.getlist(header):
            try:
                fields.append((name, value.encode("latin-1").decode()))
            except UnicodeDecodeError:
                raise InvalidParameter(f"{header}: not UTF-8") from None
    return fields


def _is_multipart(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def _refuse_compressed(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedEncoding("send the body as it is: Content-Encoding is not taken")


async def _parsed(parser: _Parser) -> FormData:
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise BadMultipart(error.message) from error
    except (ValueError, LookupError) as error:  # codecs named by the client
        raise BadMultipart("the multipart body does not parse") from error


async def _read_form(
    request: Request, params: type[PictureParams]
) -> tuple[bytes, list[tuple[str, str]]]:
    form = await _parsed(_Parser(request, params.max_field_bytes))
    try:
        files = [(name, part) for name, part in form.multi_items() if isinstance(part, UploadFile)]
        if len(files) > 1:
            raise SeveralImages("send one image a request, and no other file")
        if not files or files[0][0] not in params.file_fields:
            raise MissingImage("send the picture as a file in the field `image`")
        return await files[0][1].read(), _texts_of(form)
    finally:
        await form.close()


def _validated(fields: list[tuple[str, str]], params: type[P]) -> P:
    if len(fields) > _MAX_FIELDS:
        raise InvalidParameter(f"at most {_MAX_FIELDS} parameters are taken")
    values = dict(fields)
    if len(values) < len(fields):
        [(twice, _)] = Counter(name for name, _ in fields).most_common(1)
        raise InvalidParameter(f"{twice}: it is given more than once")
    try:
        return params.model_validate(values)
    except ValidationError as error:
        raise InvalidParameter.of(list(error.errors())) from None
