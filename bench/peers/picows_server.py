"""picows with uvloop and orjson."""

import orjson
import uvloop
from account import Account, announce, terminated
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


class Media(WSListener):
    """One call."""

    def __init__(self, echoes: bool) -> None:
        self._echoes = echoes

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin the account."""
        self._account = Account(self._echoes, orjson.loads, orjson.dumps)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message, or answer a Close."""
        if frame.msg_type == WSMsgType.TEXT:
            if self._account.receive(frame.get_payload_as_memoryview()):
                for answer in self._account.answers:
                    transport.send(WSMsgType.TEXT, answer)
                return
            transport.send_close()
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End the account."""
        self._account.close()


def route(request: WSUpgradeRequest) -> Media | None:
    """Refuse other paths."""
    return Media(request.path == b"/echo") if request.path in (b"/media", b"/echo") else None


async def main() -> None:
    """Serve until SIGTERM."""
    server = await ws_create_server(route, "127.0.0.1", 0)
    announce(server.sockets[0].getsockname()[1])
    await terminated()


if __name__ == "__main__":
    uvloop.run(main())
