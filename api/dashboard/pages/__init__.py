"""The pages, a file each."""

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api.dashboard.assets import STATIC_FOLDER
from api.dashboard.pages import administration, batch, batches, document, search, sign_in, submit

__all__ = ["ROUTERS", "STATIC_FOLDER", "Assets"]

ROUTERS = (
    batches.router,
    batch.router,
    document.router,
    submit.router,
    search.router,
    sign_in.router,
    *administration.ROUTERS,
)


class Assets(StaticFiles):
    """Files whose address changes with their content: a browser that has one never asks for it again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200 and b"v=" in scope.get("query_string", b""):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
