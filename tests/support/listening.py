"""An application of this process behind a port of this machine, for clients that speak more than ASGI."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from tests.support.waiting import until_async


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application whose parts are open already, and answer its address."""
    config = uvicorn.Config(
        app, port=0, lifespan="off", log_config=None, ws_max_size=64 * 1024, ws_per_message_deflate=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def port() -> int | None:
        return server.servers[0].sockets[0].getsockname()[1] if server.started else None

    try:
        yield f"http://127.0.0.1:{await until_async(port)}"
    finally:
        server.should_exit = True
        await serving
