"""A tunnel, as ngrok is one: it ends TLS at a public address, and passes on what comes to a port here."""

import asyncio
import contextlib
import ssl
import threading

import trustme


class Tunnel:
    """A tunnel to `port`, at `https://localhost:...`. A context manager: it ends with the block.

    Programs trust it with `environ`. What goes wrong with tunnels a test may set: `answer`, the bytes with
    which it answers every request itself; `change`, a function of the head of each request; `seconds`, after
    which it cuts a WebSocket off.
    """

    def __init__(self, port, folder):
        self.port = port
        self.answer = None
        self.change = None
        self.seconds = None
        authority = trustme.CA()
        path = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(path))
        self.environ = {"SSL_CERT_FILE": str(path)}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)
        self._connections = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    async def _serve(self):
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._context)
        self.url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._ending.wait()
        server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _pass_on(self, reader, writer):
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._connect(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _connect(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if self.answer is not None:
            writer.write(self.answer)
            await reader.read()  # until the client has read it, and goes
            return
        if self.change is not None:
            head = self.change(head)
        head = head.replace(b"\r\n", b"\r\nX-Forwarded-Proto: https\r\n", 1)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            to_writer.write(head)
            both = asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))
            is_websocket = b"websocket" in head.lower()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(both, self.seconds if is_websocket else None)
        finally:
            to_writer.transport.abort()


async def _pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
