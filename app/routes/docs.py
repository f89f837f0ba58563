"""The OpenAPI page, with a `curl` line for each endpoint."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

DESCRIPTION = """\
Translates, upscales and stylizes photos with trained generators.

Send the picture as the file `image` of a multipart form, or as the whole body with the same
parameters in the query; the answer is a picture, or JSON with `Accept: application/json`.
Errors are `application/problem+json` (RFC 9457) with a stable `code`.

```sh
curl -F image=@facade.png -F model=facades    -o out.png http://localhost:8000/v1/translate
curl -F image=@small.jpg  -F scale=4          -o out.jpg http://localhost:8000/v1/upscale
curl -F image=@photo.jpg  -F style=starry-night -o out.jpg http://localhost:8000/v1/stylize
curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' \\
     -o out.webp 'http://localhost:8000/v1/upscale?scale=2&format=webp'
curl http://localhost:8000/v1/models
```
"""

_CDN = "https://cdn.jsdelivr.net"
_CSP = (
    f"default-src 'none'; script-src {_CDN} 'unsafe-inline'; style-src {_CDN} 'unsafe-inline'; "
    "img-src data: blob: https://fastapi.tiangolo.com; connect-src 'self'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Swagger UI; its script comes from a CDN, so the policy allows that one."""
    page = get_swagger_ui_html(
        openapi_url=str(request.scope.get("root_path", "")) + "/openapi.json", title="Anamorph"
    )
    page.headers["Content-Security-Policy"] = _CSP
    return page
