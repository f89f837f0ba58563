"""The page at `/`: static files, which ask the API from the browser."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.staticfiles import StaticFiles

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    # Asked for again each time, and answered with a 304: files of two releases never mix.
    "Cache-Control": "no-cache",
}
_FILES = StaticFiles(directory=Path(__file__).parents[1] / "static" / "page", check_dir=False)

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request) -> Response:
    """The page; its links are relative, so that it works below any path."""
    return await page_file("index.html", request)


@router.get("/page/{name:path}")
async def page_file(name: str, request: Request) -> Response:
    """One of its files; a 404 for any other name."""
    response = await _FILES.get_response(name, request.scope)
    response.headers.update(_HEADERS)
    return response
