"""Requests for the live page, byte by byte where that matters, and who has logged in to it."""

import http.client
import re
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from support.server import SECONDS

TOKEN = "a token of a person".replace(" ", "-")


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self):
        return self.body.decode()

    @property
    def cookies(self):
        """Return the cookies that it sets, by name, with their attributes."""
        return SimpleCookie("\r\n".join(self.headers.get_all("Set-Cookie", [])))


def ask(port, path="/", method="GET", *, body=None, **headers):
    """Return the answer to a request. Headers: `Accept_Language="de"`; a header that is None is not sent."""
    headers = {"Host": f"localhost:{port}", **{name.replace("_", "-"): v for name, v in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def try_token(port, token, **headers):
    """Return the answer to a login."""
    body = urlencode({"token": token}).encode()
    content_type = "application/x-www-form-urlencoded"
    return ask(port, "/page/login", "POST", body=body, Content_Type=content_type, **headers)


def log_in(port, token=TOKEN, **headers):
    """Log in; return the header `Cookie` of the requests that follow."""
    answer = try_token(port, token, **headers)
    assert (answer.status, answer.headers["Location"]) == (303, "/"), answer.text
    ((name, cookie),) = answer.cookies.items()
    return f"{name}={cookie.coded_value}"


def token_of(server):
    """Return the token that a server has shown at its start."""
    return server.wait_for(r"Watch the calls at http://[^/]+/(?:page/)?#(\S+)$")[1]


def is_form(answer):
    """Return whether an answer is the form for the token."""
    return bool(re.search(r'<input[^>]* name="token"', answer.text)) and "/page/page.js" not in answer.text
