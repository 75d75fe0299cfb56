"""Who may look at the page, asked over real connections; and the cookie, judged by `Access` alone."""

import socket
from collections import Counter
from contextlib import ExitStack

import itsdangerous
import pytest
from support.page_http import TOKEN, ask, is_form, log_in, token_of, try_token
from support.server import SECONDS
from werkzeug.http import dump_cookie

from mediastreams.config import Settings
from mediastreams.server.handshake import Refusal
from mediastreams.viewers import access as module
from mediastreams.viewers.access import COOKIE_SECONDS, MAX_FAILURES, Access

TUNNEL = "example.ngrok.app"
PATHS = ["/page/index.html", "/page/recordings", "/page/recordings/a.wav", "/page/recordings/a/peaks"]
# Those that have no route, or none for this method.
PATHS += ["/page/nothing", "/page/a/b/c", "/page/login", "/page/live"]


@pytest.fixture(scope="module")
def server(start_shared_server, tmp_path_factory):
    return start_shared_server(
        PAGE_TOKEN=TOKEN, RECORDINGS_DIR=str(tmp_path_factory.mktemp("recordings")), LOG_LEVEL="DEBUG"
    )


@pytest.fixture(scope="module")
def tunnelled(start_shared_server):
    """A server behind a tunnel that it knows."""
    return start_shared_server(PAGE_TOKEN=TOKEN, PUBLIC_URL=f"https://{TUNNEL}")


@pytest.fixture(scope="module")
def cookie(server):
    return log_in(server.port)


class TestOverTheWire:
    def test_who_has_the_token(self, server, cookie):
        assert ask(server.port, "/page/index.html", Cookie=cookie).status == 200
        page = ask(server.port, "/", Cookie=cookie)
        assert page.status == 200
        assert not is_form(page)

    def test_the_cookie(self, server):
        answer = try_token(server.port, TOKEN)
        ((name, cookie),) = answer.cookies.items()
        assert name == f"mediastreams-{server.port}"
        assert cookie["httponly"]
        assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("Strict", "/", "")
        assert cookie["max-age"] == str(12 * 60 * 60)
        assert not cookie["secure"]
        assert TOKEN not in cookie.value

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
    def test_no_cookie(self, server, path, method):
        if (path, method) in {("/page/login", "POST"), ("/page/login", "OPTIONS")}:
            return
        answer = ask(server.port, path, method)
        assert (answer.status, answer.headers["Content-Type"]) == (403, "text/plain")
        assert answer.text == ("" if method == "HEAD" else "Log in at / first.\n")

    def test_the_form_and_nothing_else(self, server):
        answer = ask(server.port)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert is_form(answer)
        assert "Set-Cookie" not in answer.headers

    def test_a_wrong_token(self, server):
        server.logged()
        answer = try_token(server.port, f"{TOKEN}x")
        assert answer.status == 403
        assert is_form(answer)
        assert '<p class="error" role="alert">This is not the token of the page.</p>' in answer.text
        assert "Set-Cookie" not in answer.headers
        warnings = [line for line in server.logged() if "login" in line and "POST" not in line]
        assert warnings == [
            "127.0.0.1: a login to the page refused with 403, This is not the token of the page."
        ]

    @pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN.upper(), f" {TOKEN}", "\u00fc\0"])
    def test_almost_the_token(self, server, token):
        assert try_token(server.port, token).status == 403

    @pytest.mark.parametrize("path", ["/page/index.html", "/page/recordings", "/"])
    def test_the_token_in_the_query(self, server, path):
        answer = ask(server.port, f"{path}?token={TOKEN}")
        assert "Set-Cookie" not in answer.headers
        assert is_form(answer) if path == "/" else answer.status == 403

    def test_a_login_by_the_query(self, server):
        answer = ask(server.port, f"/page/login?token={TOKEN}", "POST", body=b"")
        assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "x",
            "http://localhost.x.y",
            f"http://localhost.{TOKEN}",
            "%00",
            "a" * 4000,
        ],
    )
    def test_a_cookie_that_was_made_up(self, server, value):
        assert (
            ask(server.port, "/page/recordings", Cookie=f"mediastreams-{server.port}={value}").status == 403
        )

    def test_a_cookie_that_was_changed(self, server, cookie):
        name, _, value = cookie.partition("=")
        for changed in (value[:-1], value.replace(".", "0."), f"{value}0", value.swapcase()):
            assert ask(server.port, "/page/recordings", Cookie=f"{name}={changed}").status == 403

    @pytest.mark.parametrize("path", ["/", "/page/recordings"])
    def test_a_cookie_that_is_not_utf_8(self, server, cookie, path):
        server.logged()
        other = b"other=\xff\xfe".decode("latin1")
        assert ask(server.port, path, Cookie=other).status == (200 if path == "/" else 403)
        assert ask(server.port, path, Cookie=f"{other}; {cookie}").status == 200
        server.logged()  # has no traceback

    def test_a_cookie_beside_another_of_its_name(self, server, cookie):
        """As a program at another path of the host can set it, so that nobody gets in."""
        name = cookie.partition("=")[0]
        for both in (f"{name}=x; {cookie}", f"{cookie}; {name}=x"):
            assert ask(server.port, "/page/recordings", Cookie=both).status == 200

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "http://127.0.0.1:{port}",
            "http://localhost:{port}.evil.example",
            "http://evil.example/localhost:{port}",
            "http://evil@localhost:{port}",
            "file://",
            "null",
            "localhost:{port}",
        ],
    )
    @pytest.mark.parametrize("path", ["/", "/page/login.js", "/page/recordings"])
    def test_a_foreign_origin(self, server, cookie, origin, path):
        answer = ask(server.port, path, Cookie=cookie, Origin=origin.format(port=server.port))
        assert (answer.status, answer.text) == (403, "The page is not shown to other sites.\n")

    def test_a_login_of_a_foreign_site(self, server):
        answer = try_token(server.port, TOKEN, Origin="http://localhost:3000")
        assert (answer.status, "Set-Cookie" in answer.headers) == (403, False)

    def test_its_own_origin(self, server, cookie):
        origin = f"http://localhost:{server.port}"
        assert ask(server.port, "/page/recordings", Cookie=cookie, Origin=origin).status == 200
        assert log_in(server.port, Origin=origin)

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:{port}",
            "localhost.evil.example:{port}",
            "127.0.0.1.evil.example",
            "127.0.0.2:{port}",
            "localhost:{port},evil.example",
            "localhost:x",
            "localhost:{port}:1",
            "evil@localhost:{port}",
            "[::2]:{port}",
            "::1",
            "localhost/",
            "",
            TUNNEL,
        ],
    )
    def test_another_host(self, server, cookie, host):
        """As DNS rebinding brings it: a name of a foreign site that resolves to this machine."""
        host = host.format(port=server.port)
        for path in ("/", "/page/login.js", "/page/recordings"):
            answer = ask(server.port, path, Cookie=cookie, Host=host, Origin=f"http://{host}")
            assert (answer.status, answer.headers["Content-Type"]) == (403, "text/plain")
            assert answer.text.startswith("The page is not shown at this address. ")
        assert try_token(server.port, TOKEN, Host=host).status == 403

    def test_no_host_and_two(self, server, cookie):
        for hosts in ([], [f"localhost:{server.port}", "evil.example"]):
            lines = [f"Host: {host}" for host in hosts]
            request = "\r\n".join(["GET /page/recordings HTTP/1.0", *lines, f"Cookie: {cookie}", "", ""])
            with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
                connection.sendall(request.encode())
                assert connection.recv(65536).split()[1] in (b"403", b"400")

    @pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "[::1]"])
    def test_each_host_of_this_machine(self, server, host):
        host = f"{host}:{server.port}"
        cookie = log_in(server.port, Host=host)
        assert ask(server.port, "/page/recordings", Host=host, Cookie=cookie).status == 200

    @pytest.mark.parametrize(
        ("own", "host"),
        [
            ("127.0.0.2", "127.0.0.2:80"),
            ("::1", "[::1]"),
            ("fe80::1%lo", "[fe80::1]:80"),
            ("2001:DB8:0:1:0:0:0:5", "[2001:db8:0:1::5]:80"),
            ("My-Host", "my-host"),
        ],
    )
    def test_the_host_of_the_settings(self, own, host):
        access = Access(Settings(http_server_host=own, page_token=TOKEN))
        assert access.address_refusal(environ(HTTP_HOST=host)) is None
        assert access.address_refusal(environ(HTTP_HOST=f"x{host}")) is not None

    def test_the_host_of_the_command_line(self, start_server):
        server = start_server("app.py", "--host", "127.0.0.2", "--port", "0", PAGE_TOKEN=TOKEN)
        with socket.create_connection(("127.0.0.2", server.port), SECONDS) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: 127.0.0.2\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")

    @pytest.mark.parametrize(
        "path",
        [
            "/page/../config.py",
            "/page/../../config.py",
            "/page/%2e%2e/metrics.py",
            "/page/..%2fmetrics.py",
            "/page/%2e%2e%2fhealth.py",
            "/page/..%5chealth.py",
            "/page/./index.html",
            "/page//index.html",
            "/page//etc/passwd",
            "/page/%2fetc%2fpasswd",
            "/page/index.html%00.js",
            "/page/index.html/",
            "/page/.",
            "/page/..",
            "/page/recordings/../index.html",
            "/page/recordings/..%2f..%2fpyproject.toml",
            "/page/recordings/%2e%2e",
            "/page/recordings/",
            "/page/recordings//etc/passwd",
            "/page/recordings/%2fetc%2fpasswd",
            "/page/recordings/../peaks",
            "/page/recordings/..%2fx/peaks",
        ],
    )
    def test_tricks_with_the_path(self, server, cookie, path):
        """Without the cookie nothing is found out by them, and with it they lead nowhere."""
        refused = ask(server.port, path)
        assert refused.status in (403, 308)
        answer = ask(server.port, path, Cookie=cookie)
        assert answer.status in (404, 308)
        assert b"import" not in answer.body
        assert b"root:" not in answer.body
        if answer.status == 308:  # a doubled slash; where that leads needs the cookie, too
            assert answer.headers["Location"].startswith(f"http://localhost:{server.port}/page/")

    @pytest.mark.parametrize(
        "path", ["//page/recordings", "/PAGE/recordings", "/page;/recordings", "/%70age/recordings"]
    )
    def test_other_spellings_of_a_path(self, server, path):
        answer = ask(server.port, path)
        assert answer.status in (403, 404, 308)
        assert b"{" not in answer.body

    def test_an_oversized_login(self, server):
        server.logged()
        answer = try_token(server.port, TOKEN + "x" * 1024)
        assert (answer.status, answer.text) == (413, "A login has at most 1024 bytes.\n")
        assert (
            "127.0.0.1: a login to the page refused with 413, A login has at most 1024 bytes."
            in server.logged()
        )

    def test_the_longest_token_fits(self, start_server):
        token = "~" * 256
        server = start_server(PAGE_TOKEN=token)
        assert log_in(server.port, token)

    def test_a_login_that_says_it_is_huge(self, server):
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
            head = f"POST /page/login HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
            connection.sendall(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")

    def test_a_login_that_is_cut_off(self, server):
        server.logged()
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
            head = f"POST /page/login HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Length: 30\r\n"
            connection.sendall(
                f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken=".encode()
            )
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert (
            "127.0.0.1: a login to the page refused with 400, The body of the login was cut off."
            in server.logged()
        )

    def test_a_login_that_does_not_come(self, start_server):
        server = start_server(PAGE_TOKEN=TOKEN, START_TIMEOUT="0.3")
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
            head = f"POST /page/login HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Length: 30\r\n"
            connection.sendall(
                f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken=".encode()
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
        assert "a login to the page refused with 408, The login was not whole within 0.3 s." in server.stop()

    @pytest.mark.parametrize(
        "content_type", ["text/plain", "application/json", "multipart/form-data; boundary=a"]
    )
    def test_a_login_that_is_no_form(self, server, content_type):
        body = f'{{"token": "{TOKEN}"}}'.encode()
        assert ask(server.port, "/page/login", "POST", body=body, Content_Type=content_type).status == 403

    def test_head(self, server, cookie):
        for path in ("/", "/page/", "/page/login.js", "/page/index.html", "/page/recordings"):
            answer, full = (ask(server.port, path, method, Cookie=cookie) for method in ("HEAD", "GET"))
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["Content-Length"] == full.headers["Content-Length"] == str(len(full.body))
            assert answer.headers["Content-Security-Policy"] == full.headers["Content-Security-Policy"]
        assert ask(server.port, "/page/login", "HEAD", Cookie=cookie).status == 404

    def test_another_token(self, start_server, server, cookie):
        """A cookie is void when the token has changed, though the port is the same."""
        other = start_server(PAGE_TOKEN="another-token-of-a-person")
        name = f"mediastreams-{other.port}"
        host = f"localhost:{server.port}"  # the one for which it was signed
        value = cookie.partition("=")[2]
        for cookies in (f"{cookie}; {name}={value}", cookie):
            assert ask(other.port, "/page/recordings", Cookie=cookies, Host=host).status == 403
        assert ask(server.port, "/page/recordings", Cookie=cookie).status == 200

    def test_another_port_with_the_same_token(self, start_server, server, cookie):
        other = start_server(PAGE_TOKEN=TOKEN)
        value = cookie.partition("=")[2]
        for name in (f"mediastreams-{server.port}", f"mediastreams-{other.port}"):
            assert ask(other.port, "/page/recordings", Cookie=f"{name}={value}").status == 403

    def test_a_random_token(self, start_server):
        server = start_server()
        cookie = log_in(server.port, token_of(server))
        assert ask(server.port, "/page/recordings", Cookie=cookie).status == 200
        assert try_token(server.port, "off").status == 403

    def test_ten_failures_and_then_nobody(self, start_server):
        server = start_server(PAGE_TOKEN=TOKEN)
        cookie = log_in(server.port)
        for _ in range(MAX_FAILURES):
            assert try_token(server.port, "x").status == 403
        for token in ("x", TOKEN):
            answer = try_token(server.port, token)
            assert answer.status == 429
            assert is_form(answer)
            assert "There were 10 failed logins within a minute: wait " in answer.text
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert ask(server.port, "/page/recordings", Cookie=cookie).status == 200  # who is in stays in
        printed = server.stop()
        assert printed.count("a login to the page refused with 403") == 10
        assert "2 more lines of failed logins to the page were left out" in printed

    def test_failures_that_come_together_count_too(self, start_server):
        """A login that began before the others failed is no further try."""
        server = start_server(PAGE_TOKEN=TOKEN)
        body = b"token=x"
        head = (
            f"POST /page/login HTTP/1.1\r\nHost: localhost:{server.port}\r\nConnection: close\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        with ExitStack() as stack:
            address = "127.0.0.1", server.port
            logins = [
                stack.enter_context(socket.create_connection(address, SECONDS))
                for _ in range(MAX_FAILURES + 2)
            ]
            for login in logins:
                login.sendall(head + body[:-1])
            assert ask(server.port, "/livez").status == 200  # it has read them so far
            for login in logins:
                login.sendall(body[-1:])
            answers = Counter(login.recv(65536)[9:12] for login in logins)
        assert answers == {b"403": MAX_FAILURES, b"429": 2}

    def test_refusals_have_a_bound_of_their_own(self, start_server):
        """They take no lines from those of handshakes and webhooks."""
        server = start_server(PAGE_TOKEN=TOKEN)
        for _ in range(11):
            assert ask(server.port, "/page/x%1b").status == 403
        assert ask(server.port, "/twiml/nothing").status == 404
        printed = server.stop()
        assert printed.count('"GET /page/x\\u001b" refused with 403, there is no valid cookie') == 10
        assert "1 more lines of refusals of the page were left out" in printed

    def test_they_are_counted(self, server):
        def refusals():
            page = ask(server.port, "/metrics").text
            return float(page.partition('mediastreams_refusals_total{reason="page"} ')[2].partition("\n")[0])

        before = refusals()
        ask(server.port, "/page/recordings")
        try_token(server.port, "x")
        assert refusals() == before + 2

    def test_who_looks_leaves_no_line_in_the_log(self, start_server, tmp_path):
        server = start_server(PAGE_TOKEN=TOKEN, RECORDINGS_DIR=str(tmp_path))
        server.logged()
        ask(server.port, "/")
        ask(server.port, "/", Host="evil.example")
        cookie = log_in(server.port)
        paths = (
            "/",
            "/page/login.js",
            "/favicon.ico",
            "/page/index.html",
            "/page/recordings",
            "/page/nothing",
        )
        for path in paths:
            ask(server.port, path, Cookie=cookie)
        assert server.logged() == []


class TestATunnel:
    """It forwards everybody to 127.0.0.1, with its own name as the Host."""

    def test_one_that_the_settings_do_not_name(self, server, cookie):
        answer = ask(server.port, "/", Host=TUNNEL, X_Forwarded_Proto="https", Cookie=cookie)
        assert answer.status == 403
        assert "set PUBLIC_URL or HTTP_SERVER_HOST to this address" in answer.text

    def test_one_that_they_name(self, tunnelled):
        headers = {"Host": TUNNEL, "X_Forwarded_Proto": "https", "Origin": f"https://{TUNNEL}"}
        assert ask(tunnelled.port, "/page/recordings", **headers).status == 403
        answer = try_token(tunnelled.port, TOKEN, **headers)
        ((name, cookie),) = answer.cookies.items()
        assert (name, cookie["secure"]) == ("mediastreams-443", True)
        cookie = f"{name}={cookie.coded_value}"
        assert ask(tunnelled.port, "/page/recordings", Cookie=cookie, **headers).status == 200

    def test_one_that_rewrites_the_host(self, tunnelled):
        """As `ngrok http --host-header=rewrite` does; the Origin is still the browser's."""
        headers = {"X_Forwarded_Proto": "https", "Origin": f"https://{TUNNEL}"}
        cookie = log_in(tunnelled.port, **headers)
        assert ask(tunnelled.port, "/page/recordings", Cookie=cookie, **headers).status == 200

    def test_plain_http_after_https(self, tunnelled):
        """Whoever sends the cookie of https in the clear gets nothing for it."""
        host = f"{TUNNEL}:8443"
        cookie = log_in(tunnelled.port, Host=host, X_Forwarded_Proto="https")
        assert ask(tunnelled.port, "/page/recordings", Host=host, Cookie=cookie).status == 403
        https = ask(tunnelled.port, "/page/recordings", Host=host, Cookie=cookie, X_Forwarded_Proto="https")
        assert https.status == 200

    def test_the_local_address_still_works(self, tunnelled):
        cookie = log_in(tunnelled.port)
        assert ask(tunnelled.port, "/page/recordings", Cookie=cookie).status == 200


def environ(**changes):
    return {"wsgi.url_scheme": "http", "HTTP_HOST": "localhost:5000", **changes}


class TestTheCookie:
    """`Access` with a WSGI environment, as the WebSocket of the page asks it."""

    @pytest.fixture
    def access(self):
        return Access(Settings(page_token=TOKEN))

    def with_cookie(self, access, **changes):
        """Return the environment of a request of who has logged in with one like it."""
        cookie = access.cookie(environ(**changes))
        return environ(**changes, HTTP_COOKIE=dump_cookie(cookie["key"], cookie["value"]).partition(";")[0])

    def test_it_lets_in(self, access):
        assert access.refusal(self.with_cookie(access)) is None

    def test_no_cookie(self, access):
        refused = access.refusal(environ())
        assert refused == Refusal(403, "page", "Log in at / first.", why="there is no valid cookie")

    @pytest.mark.parametrize(
        ("age", "is_valid"),
        [
            (COOKIE_SECONDS, True),
            (COOKIE_SECONDS + 1, False),
            (-2, True),  # it is of a server behind the same load balancer whose clock is ahead
            (-COOKIE_SECONDS - 1, False),
        ],
    )
    def test_its_age(self, access, monkeypatch, age, is_valid):
        now = 1_800_000_000
        monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda _: now)
        old = self.with_cookie(access)
        monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda _: now + age)
        assert (access.refusal(old) is None) is is_valid

    def test_an_old_one_over_the_wire(self, server, access, monkeypatch):
        host = f"localhost:{server.port}"
        now = itsdangerous.TimestampSigner("x").get_timestamp()
        for age, status in ((COOKIE_SECONDS + 60, 403), (COOKIE_SECONDS - 60, 200)):
            monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda _, age=age: now - age)
            cookie = self.with_cookie(access, HTTP_HOST=host)["HTTP_COOKIE"]
            assert ask(server.port, "/page/recordings", Cookie=cookie).status == status

    def test_one_of_another_secret(self, access):
        signed = itsdangerous.TimestampSigner(TOKEN).sign("http://localhost:5000").decode()
        assert access.refusal(environ(HTTP_COOKIE=f"mediastreams-5000={signed}")) is not None

    @pytest.mark.parametrize(
        ("host", "forwarded", "name"),
        [
            ("localhost:5000", "", "mediastreams-5000"),
            ("localhost", "", "mediastreams-80"),
            ("localhost", "https", "mediastreams-443"),
            ("localhost", "https, http", "mediastreams-443"),
            ("localhost", "http, https", "mediastreams-80"),
            ("localhost", "WSS", "mediastreams-443"),
            ("[::1]", "", "mediastreams-80"),
            ("[::1]:81", "", "mediastreams-81"),
        ],
    )
    def test_its_name(self, access, host, forwarded, name):
        cookie = access.cookie(environ(HTTP_HOST=host, HTTP_X_FORWARDED_PROTO=forwarded))
        assert cookie["key"] == name
        assert cookie["secure"] is (name == "mediastreams-443")

    def test_the_handshake_behind_a_proxy_that_names_it_wss(self, access):
        logged_in = self.with_cookie(access, HTTP_X_FORWARDED_PROTO="https")
        assert access.refusal({**logged_in, "HTTP_X_FORWARDED_PROTO": "wss"}) is None
        assert access.refusal({**logged_in, "HTTP_X_FORWARDED_PROTO": "ws"}) is not None

    def test_tls_in_the_server_itself(self, access):
        assert access.cookie(environ(**{"wsgi.url_scheme": "https"}))["secure"]

    def test_a_public_url_with_a_port(self):
        access = Access(Settings.read({"PAGE_TOKEN": TOKEN, "PUBLIC_URL": "https://Example.com:8443/twilio"}))
        for host in ("example.com", "example.com:8443"):
            assert access.address_refusal(environ(HTTP_HOST=host)) is None
        origin = "https://example.com:8443"
        assert access.address_refusal(environ(HTTP_ORIGIN=origin)) is None
        assert access.address_refusal(environ(HTTP_ORIGIN="https://example.com")) is not None

    @pytest.mark.parametrize("host", ["", "evil*.example", "localhost:999999", "b\xfccher.example"])
    def test_a_public_url_that_no_host_can_be_does_not_let_in_what_is_no_host(self, host):
        access = Access(Settings.read({"PAGE_TOKEN": TOKEN, "PUBLIC_URL": "https://b\xfccher.example"}))
        assert access.address_refusal(environ(HTTP_HOST=host)) is not None

    def test_failures_pass(self, access, monkeypatch):
        now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: now)
        for _ in range(MAX_FAILURES - 1):
            assert not access.log_in("x")
            now += 1
        assert access.wait_seconds() == 0
        assert access.log_in(TOKEN)
        assert not access.log_in("x")
        assert access.wait_seconds() == 51
        now += 50.5
        assert access.wait_seconds() == 0.5
        now += 0.5
        assert access.wait_seconds() == 0
        assert not access.log_in("x")
        assert access.wait_seconds() == 1

    def test_a_token_is_never_shown(self, access):
        assert TOKEN not in repr(access.settings)
