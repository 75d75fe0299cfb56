"""FastAPI on uvicorn, with uvloop and websockets."""

import signal
import socket
import sys

import uvicorn
from account import Account, announce
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


@app.websocket("/media")
@app.websocket("/echo")
async def media(ws: WebSocket) -> None:
    """Take one call."""
    await ws.accept()
    account = Account(ws.url.path == "/echo")
    try:
        while account.receive(await ws.receive_text()):
            for answer in account.answers:
                await ws.send_text(answer)
        await ws.close()
    except WebSocketDisconnect:
        pass
    account.close()


if __name__ == "__main__":
    config = uvicorn.Config(
        app,
        loop="uvloop",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        access_log=False,
        log_level="warning",
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=config.backlog)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn, at its end, raises it anew
    announce(listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])
