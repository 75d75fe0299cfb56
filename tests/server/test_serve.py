"""The server as a program: what it does with signals, and where it cannot listen, is in test_handler and
test_websocket. Here: what `serve` says of an address that it cannot have."""

import errno

import pytest

from mediastreams.config import Settings
from mediastreams.server.serve import _cannot_listen


@pytest.mark.parametrize(
    ("number", "port", "sentence"),
    [
        (errno.EADDRINUSE, 5000, "HTTP_SERVER_PORT=5000 cannot be used: another program listens there. "
         "Is this server running in another terminal? Stop it there with Ctrl-C, or set another port, "
         "such as HTTP_SERVER_PORT=5001."),
        (errno.EADDRINUSE, 65535, "HTTP_SERVER_PORT=65535 cannot be used: another program listens there. "
         "Is this server running in another terminal? Stop it there with Ctrl-C, or set another port, "
         "such as HTTP_SERVER_PORT=5000."),
        (errno.EACCES, 80, "HTTP_SERVER_PORT=80 cannot be used: "
         "the system allows only ports from 1024 to this user."),
        (errno.EADDRNOTAVAIL, 5000, "HTTP_SERVER_HOST=127.0.0.1 cannot be used: it is not there"),
    ],
)  # fmt: skip
def test_the_setting_that_is_to_blame_is_named(number, port, sentence):
    error = OSError(number, "it is not there")
    assert _cannot_listen(Settings(http_server_port=port), error) == sentence
