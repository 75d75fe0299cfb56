"""How accounts are posted, and what happens when the receiver does not take them."""

import contextlib
import json
import logging
import os
import ssl
import threading
import time

import pytest
import trustme
from support.receiver import PATH, SECRET, receiving
from support.redis import free_port
from support.server import SECONDS, wait_until
from support.streams import warnings

from mediastreams import client
from mediastreams.call_webhook import poster
from mediastreams.call_webhook.poster import CallWebhook

BODY = '{"callSid": "CA1", "transcripts": [{"text": "J\u00fcrgen \\ud800"}]}\n'


def id_of(n):
    return f"20261122T180000.000Z-MZ{n:032}"


@pytest.fixture
def quick(monkeypatch):
    """The same, without the pauses that a person would not notice."""
    monkeypatch.setattr(poster, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(poster, "MAX_PAUSE", 0.2)
    monkeypatch.setattr(poster, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(poster, "_SCAN_EVERY", 0.05)


@pytest.fixture
def start(tmp_path, quick, caplog, monkeypatch):
    """Return a function that makes a webhook and starts it; each ends with the test, and what it logs."""
    caplog.set_level(logging.INFO)
    threads = []

    def start_new_thread(work, args):
        threads.append(threading.Thread(target=work, args=args, daemon=True))
        threads[-1].start()

    monkeypatch.setattr(poster, "_start_new_thread", start_new_thread)
    with contextlib.ExitStack() as stack:

        def start(url, folder=tmp_path / "spool"):
            webhook = CallWebhook(url, SECRET, str(folder))
            stack.callback(webhook.finish, 0.0)
            webhook.start()
            return webhook

        yield start
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "spool").glob("*.account"))


class TestPost:
    def test_as_it_is_signed_and_once(self, start, tmp_path, caplog):
        with receiving() as receiver:
            start(receiver.url).put(id_of(1), BODY)
            assert receiver.accounts(1) == [json.loads(BODY)]
            wait_until(lambda: not files(tmp_path))
            ((path, headers, body, _),) = receiver.came
        assert (path, body) == (PATH, BODY.encode())
        assert headers["webhook-id"] == id_of(1)
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < SECONDS
        assert headers["Content-Type"] == "application/json"
        assert headers["User-Agent"].startswith("mediastreams/")
        assert warnings(caplog) == [f"Account {id_of(1)} posted to 127.0.0.1:{receiver.port}"]

    def test_half_of_a_surrogate_pair(self, start):
        with receiving() as receiver:
            start(receiver.url).put(id_of(1), '{"text": "\ud800"}')
            assert receiver.accounts(1) == [{"text": "\ud800"}]

    def test_many(self, start, tmp_path):
        with receiving() as receiver:
            webhook = start(receiver.url)
            for n in range(50):
                webhook.put(id_of(n), BODY)
            assert len(receiver.accounts(50)) == 50
            assert sorted(receiver.ids) == [id_of(n) for n in range(50)]
            wait_until(lambda: not files(tmp_path))

    def test_what_a_former_process_has_left(self, start, tmp_path):
        CallWebhook("http://127.0.0.1:1/", SECRET, str(tmp_path / "spool")).put(id_of(1), BODY)
        with receiving() as receiver:
            start(receiver.url)
            receiver.accounts(1)

    def test_what_another_process_puts_in(self, start, tmp_path):
        with receiving() as receiver:
            start(receiver.url)
            CallWebhook("http://127.0.0.1:1/", SECRET, str(tmp_path / "spool")).put(id_of(1), BODY)
            receiver.accounts(1)

    def test_of_several_processes_one_posts(self, start):
        with receiving() as receiver:
            webhooks = [start(receiver.url) for _ in range(3)]
            for n in range(30):
                webhooks[n % 3].put(id_of(n), BODY)
            receiver.accounts(30)
            webhooks[0].finish(1.0)
            webhooks[1].finish(1.0)
            webhooks[2].put(id_of(30), BODY)
            receiver.accounts(31)
        assert sorted(receiver.ids) == [id_of(n) for n in range(31)]


class TestFailure:
    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (500, "answered with 500 Internal Server Error"),
            (404, "answered with 404 Not Found"),
            ((302, "/elsewhere"), "answered with 302 Found, redirects are not followed"),
            ((307, "/elsewhere"), "answered with 307 Temporary Redirect, redirects are not followed"),
            (599, "answered with 599"),
            ("drop", "no answer that is HTTP (RemoteProtocolError)"),
            ("noise", "no answer that is HTTP (RemoteProtocolError)"),
        ],
    )
    def test_it_is_posted_again_under_the_same_id(self, start, caplog, answer, why):
        with receiving(answer, answer) as receiver:
            start(receiver.url).put(id_of(1), BODY)
            receiver.accounts(3)
            wait_until(lambda: len(caplog.records) == 2)
        assert receiver.ids == [id_of(1)] * 3
        assert {path for path, *_ in receiver.came} == {PATH}
        host = f"127.0.0.1:{receiver.port}"
        assert warnings(caplog) == [
            f"Account {id_of(1)} is not posted to {host} yet: {why}; it is tried again for a day",
            f"Account {id_of(1)} posted to {host}",
        ]

    def test_the_pauses(self, monkeypatch, start):
        monkeypatch.setattr(poster, "MAX_PAUSE", 0.4)
        with receiving(*[500] * 5) as receiver:
            start(receiver.url).put(id_of(1), BODY)
            receiver.accounts(6)
        times = [at for *_, at in receiver.came]
        for pause, earlier, later in zip((0.05, 0.1, 0.2, 0.4, 0.4), times, times[1:], strict=False):
            assert 0.8 * pause <= later - earlier < 1.2 * pause + 1

    def test_nobody_listens(self, start, caplog):
        port = free_port()
        start(f"http://127.0.0.1:{port}{PATH}").put(id_of(1), BODY)
        wait_until(lambda: caplog.records)
        assert f"yet: nothing listens on 127.0.0.1:{port} (is the server running?); " in warnings(caplog)[0]

    def test_one_that_hangs_holds_nobody_up(self, start, caplog, monkeypatch):
        monkeypatch.setattr(poster, "TIMEOUT", 0.5)
        with receiving("hang", "hang") as receiver:
            webhook = start(receiver.url)
            began = time.monotonic()
            for n in range(10):
                webhook.put(id_of(n), BODY)
            assert time.monotonic() - began < 0.4
            wait_until(lambda: len(receiver.came) == 12)
        assert sorted(set(receiver.ids)) == [id_of(n) for n in range(10)]
        assert any("yet: no answer within 0 s; " in line for line in warnings(caplog))

    @pytest.mark.parametrize("answer", ["drip", "processing"])
    def test_one_that_never_comes_to_its_answer(self, start, caplog, monkeypatch, answer):
        monkeypatch.setattr(poster, "TIMEOUT", 0.5)
        with receiving(*[answer] * poster.THREADS) as receiver:
            webhook = start(receiver.url)
            for n in range(poster.THREADS + 1):
                webhook.put(id_of(n), BODY)
            wait_until(lambda: len(set(receiver.ids)) == poster.THREADS + 1)
        assert any("yet: no answer within 0 s; " in line for line in warnings(caplog))

    def test_one_account_that_is_never_taken_delays_no_other(self, start, tmp_path):
        class Picky:
            def pop(self, _):
                return 500 if receiver.ids[-1] == id_of(0) else 204

            def __bool__(self):
                return True

        with receiving() as receiver:
            receiver.answers = Picky()
            webhook = start(receiver.url)
            webhook.put(id_of(0), BODY)
            wait_until(lambda: len(receiver.came) >= 3)
            for n in range(1, 4):
                webhook.put(id_of(n), BODY)
                wait_until(lambda n=n: id_of(n) in receiver.ids)
            wait_until(lambda: files(tmp_path) == [f"{id_of(0)}.account"])

    def test_after_a_day_it_is_given_up(self, start, tmp_path, caplog):
        with receiving(*[500] * 1000) as receiver:
            webhook = start(receiver.url)
            webhook.put(id_of(1), BODY)
            wait_until(lambda: len(receiver.came) >= 2)
            at = time.time() - poster.DAY - 1
            os.utime(tmp_path / "spool" / f"{id_of(1)}.account", (at, at))
            wait_until(lambda: not files(tmp_path))
            assert len(receiver.came) >= poster.LEAST_ATTEMPTS
            line = (
                f"Account {id_of(1)} is given up, 127.0.0.1:{receiver.port} has not taken it within a day: "
            )
            wait_until(lambda: line + "answered with 500 Internal Server Error" in warnings(caplog))
            assert caplog.records[-1].levelno == logging.ERROR

    def test_while_it_fails_few_attempts_are_made(self, start, monkeypatch):
        """Thousands of accounts that wait must not keep the threads busy."""
        monkeypatch.setattr(poster, "_PROBE_SECONDS", 0.3)
        with receiving(*[500] * 100_000) as receiver:
            webhook = start(receiver.url)
            for n in range(100):
                webhook.put(id_of(n), BODY)
            wait_until(lambda: len(receiver.came) >= poster._MANY + poster.THREADS)
            began, before = time.monotonic(), len(receiver.came)
            wait_until(lambda: len(receiver.came) >= before + 3)
            assert time.monotonic() - began > 0.5
            receiver.answers = []
            wait_until(lambda: {*receiver.ids[before:]} == {id_of(n) for n in range(100)})

    def test_the_address_and_the_secret_are_in_no_line(self, start, caplog):
        caplog.set_level(logging.DEBUG)
        with receiving(500, (301, f"https://example.com{PATH}"), (301, "http://[")) as receiver:
            start(receiver.url).put(id_of(1), BODY)
            receiver.accounts(4)
            wait_until(lambda: any("posted to 127" in line for line in warnings(caplog)))
        assert "my-token" not in caplog.text
        assert SECRET[6:] not in caplog.text

    def test_what_has_waited_while_no_server_ran_is_tried_more_than_once(self, start, tmp_path):
        CallWebhook("http://127.0.0.1:1/", SECRET, str(tmp_path / "spool")).put(id_of(1), BODY)
        os.utime(tmp_path / "spool" / f"{id_of(1)}.account", (0, 0))
        with receiving(*[503] * (poster.LEAST_ATTEMPTS - 1)) as receiver:
            start(receiver.url)
            receiver.accounts(poster.LEAST_ATTEMPTS)

    def test_each_that_is_lost_is_told(self, tmp_path):
        told = []
        (tmp_path / "file").touch()
        webhook = CallWebhook("http://127.0.0.1:1/", SECRET, str(tmp_path / "file"), lambda: told.append(1))
        webhook.put(id_of(1), BODY)
        assert told == [1]


class TestTls:
    def test_a_certificate_of_an_authority_that_is_known(self, start, tmp_path, monkeypatch, caplog):
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        with receiving(tls=context) as receiver:
            start(receiver.url).put(id_of(1), BODY)
            wait_until(lambda: caplog.records)
            assert "yet: the certificate is not valid: " in warnings(caplog)[0]
            assert receiver.came == []
            trusted = ssl.create_default_context()
            authority.configure_trust(trusted)
            monkeypatch.setattr(poster, "tls_context", lambda: trusted)
            receiver.accounts(1)
        assert client.tls_context().verify_mode == ssl.CERT_REQUIRED

    def test_no_proxy_is_used(self, start, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
        with receiving() as receiver:
            start(receiver.url).put(id_of(1), BODY)
            receiver.accounts(1)


class TestSpool:
    def test_a_folder_that_cannot_be_used_is_one_line(self, start, tmp_path, caplog):
        (tmp_path / "file").touch()
        webhook = start("http://127.0.0.1:1/", tmp_path / "file" / "spool")
        wait_until(lambda: caplog.records)
        webhook.put(id_of(1), BODY)
        where = f"CALL_WEBHOOK_DIR={str(tmp_path / 'file' / 'spool')!r} cannot be used: "
        lines = [line for line in warnings(caplog) if "Account" in line]
        assert lines == [f"Account {id_of(1)} is not posted: {where}Not a directory"]
        assert warnings(caplog)[0] == f"{where}{tmp_path / 'file'} is not a folder"

    def test_an_account_that_cannot_be_removed_is_not_posted_again_and_again(
        self, start, monkeypatch, caplog
    ):
        def remove(*_):
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr("mediastreams.call_webhook.spool.Spool.remove", remove)
        with receiving() as receiver:
            webhook = start(receiver.url)
            webhook.put(id_of(1), BODY)
            wait_until(lambda: any("Read-only file system" in line for line in warnings(caplog)))
            webhook.put(id_of(2), BODY)
            wait_until(lambda: len(receiver.came) >= 2)
            time.sleep(0.3)  # six times as long as a pause
            assert receiver.ids == [id_of(1), id_of(2)]

    def test_one_that_is_replaced_while_it_is_posted(self, start, tmp_path):
        """By the account of a worker, such as one with the recording."""
        other = CallWebhook("http://127.0.0.1:1/", SECRET, str(tmp_path / "spool"))

        class Replacing:
            def pop(self, _):
                if len(receiver.came) == 1:
                    other.put(id_of(1), '{"recording": "a.wav"}')
                return 204

            def __bool__(self):
                return True

        with receiving() as receiver:
            receiver.answers = Replacing()
            start(receiver.url).put(id_of(1), BODY)
            assert receiver.accounts(2)[1] == {"recording": "a.wav"}
            wait_until(lambda: not files(tmp_path))

    def test_a_folder_that_becomes_a_file(self, start, tmp_path, caplog):
        with receiving(*[500] * 1000) as receiver:
            start(receiver.url).put(id_of(1), BODY)
            wait_until(lambda: receiver.came)
            (tmp_path / "spool").rename(tmp_path / "moved")
            (tmp_path / "spool").touch()
            wait_until(lambda: any("cannot be used" in line for line in warnings(caplog)))
            time.sleep(0.3)  # six times as long as a pause
        assert "Traceback" not in caplog.text


class TestFinish:
    def test_it_waits_for_first_attempts(self, start, tmp_path):
        with receiving() as receiver:
            webhook = start(receiver.url)
            wait_until(lambda: webhook._is_mine)
            for n in range(20):
                webhook.put(id_of(n), BODY)
            webhook.finish(SECONDS)
            assert len(receiver.came) == 20
            assert files(tmp_path) == []

    def test_but_not_for_one_that_does_not_answer(self, start, tmp_path, caplog):
        with receiving("hang") as receiver:
            webhook = start(receiver.url)
            webhook.put(id_of(1), BODY)
            wait_until(lambda: receiver.came)
            began = time.monotonic()
            webhook.finish(0.3)
            assert 0.2 < time.monotonic() - began < 5
        (line,) = [line for line in warnings(caplog) if "wait in" in line]
        assert line.startswith(f"1 accounts wait in {tmp_path / 'spool'}: they are posted to 127.0.0.1:")
        assert files(tmp_path) == [f"{id_of(1)}.account"]

    def test_what_has_failed_once_is_not_waited_for(self, start, monkeypatch):
        monkeypatch.setattr(poster, "FIRST_PAUSE", 60.0)
        with receiving(500) as receiver:
            webhook = start(receiver.url)
            webhook.put(id_of(1), BODY)
            wait_until(lambda: webhook._failures)
            began = time.monotonic()
            webhook.finish(SECONDS)
            assert time.monotonic() - began < 3
