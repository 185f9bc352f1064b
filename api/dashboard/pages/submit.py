"""``/submit``: documents from this computer into a batch."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.public_api import Api
from api.dashboard.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/submit")
@public
async def show_submit(request: Request, api: Api) -> Response:
    """The form; the page's own script sends what was chosen to ``/v1/batches``."""
    limits = await api.get("/v1/limits")
    return await page(request, api, "submit.html", title="Submit documents", limits=limits)
