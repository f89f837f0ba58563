"""The OpenAPI page, with a `curl` line for each endpoint."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

DESCRIPTION = """\
Translates, upscales, stylizes and anonymizes photos with trained generators.

Send the picture as the file `image` of a multipart form, or as the whole body with the same
parameters in the query; the answer is a picture, or JSON with `Accept: application/json`.
Errors are `application/problem+json` (RFC 9457) with a stable `code`.

The examples work as they stand, in their order, on a service without keys that has its shipped
models; where one has a path below `/docs/examples/` for a file, that is where to get the file.

```sh
curl -F image=@facade.png -F model=facades    -o out.png http://localhost:8000/v1/translate
curl -F image=@small.jpg  -F scale=4          -o out.jpg http://localhost:8000/v1/upscale
curl -F image=@photo.jpg  -F style=starry-night -o out.jpg http://localhost:8000/v1/stylize
curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' \\
     -o out.webp 'http://localhost:8000/v1/upscale?scale=2&format=webp'
curl http://localhost:8000/v1/models
```
"""

_STATIC = Path(__file__).parents[1] / "static"
_EXAMPLES = ("photo.jpg", "photos.zip", "sealed.png")
_VERSION = "5.35.0"  # of npm's swagger-ui-dist, whose files the folder holds as they were published
_SCRIPT, _STYLE, _ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"
_CSP = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Swagger UI; all that it loads comes from this service."""
    root = str(request.scope.get("root_path", ""))
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="Anamorph",
        swagger_js_url=f"{root}/docs/{_SCRIPT}?{_VERSION}",
        swagger_css_url=f"{root}/docs/{_STYLE}?{_VERSION}",
        swagger_favicon_url=f"{root}/docs/{_ICON}?{_VERSION}",
    )
    page.headers["Content-Security-Policy"] = _CSP
    return page


@router.get("/docs/{name}")
async def docs_file(name: str) -> FileResponse:
    """One of Swagger UI's files, which never changes: another version has another query."""
    if name not in (_SCRIPT, _STYLE, _ICON):
        raise HTTPException(404)
    forever = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(_STATIC / "swagger-ui" / name, headers=forever)


@router.get("/docs/examples/{name}")
async def example_file(name: str) -> FileResponse:
    """One of the files that the examples of the description name."""
    if name not in _EXAMPLES:
        raise HTTPException(404)
    return FileResponse(_STATIC / "examples" / name)
