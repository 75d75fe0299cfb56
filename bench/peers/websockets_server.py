"""The websockets library with uvloop."""

from http import HTTPStatus

import uvloop
from account import Account, announce, terminated
from websockets.asyncio.server import Request, Response, ServerConnection, serve


async def media(ws: ServerConnection) -> None:
    """Take one call."""
    account = Account(ws.request.path == "/echo")
    async for data in ws:
        if not account.receive(data):
            break
        for answer in account.answers:
            await ws.send(answer)
    account.close()


def route(ws: ServerConnection, request: Request) -> Response | None:
    """Refuse other paths."""
    return None if request.path in ("/media", "/echo") else ws.respond(HTTPStatus.NOT_FOUND, "")


async def main() -> None:
    """Serve until SIGTERM."""
    options = {"process_request": route, "compression": None, "ping_interval": None}
    async with serve(media, "127.0.0.1", 0, **options) as server:
        announce(server.sockets[0].getsockname()[1])
        await terminated()


if __name__ == "__main__":
    uvloop.run(main())
