"""aiohttp with uvloop."""

import uvloop
from account import Account, announce, terminated
from aiohttp import WSMsgType, web


async def media(request: web.Request) -> web.WebSocketResponse:
    """Take one call."""
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    account = Account(echoes=False)
    async for message in ws:
        if message.type is not WSMsgType.TEXT or not account.receive(message.data):
            break
    account.close()
    return ws


async def main() -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.router.add_get("/media", media)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    announce(runner.addresses[0][1])
    await terminated()


if __name__ == "__main__":
    uvloop.run(main())
