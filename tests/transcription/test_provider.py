"""Sessions that fail are tried again, a few times: with sessions of the test's."""

import asyncio

import pytest
from support.provider import SECOND, Sessions, Track

from mediastreams.transcription import provider
from mediastreams.transcription.session import SessionError


class TestErrors:
    def test_a_few_tries_then_no_more(self):
        track = Track(SECOND)

        async def session(backlog):
            raise SessionError("refused with 403")

        track.recognise(session)
        assert track.said == [
            "Provider: refused with 403: tried again",
            "Provider: refused with 403: given up, no transcript from here",
        ]
        assert track.paused == [0.5, 1.0, 2.0, 4.0]
        assert track.backlog.dropped == 8000

    def test_success_lets_it_try_again(self):
        track = Track(SECOND)
        sessions = []

        async def session(backlog):
            sessions.append(1)
            if len(sessions) == 20:
                backlog.finish()
                return [chunk async for chunk in backlog.chunks()]
            if len(sessions) % 3 == 0:
                backlog.add_text("word", True, 0, 0)
            raise SessionError("dropped")

        track.recognise(session)
        assert set(track.said) == {"Provider: dropped: tried again"}
        assert max(track.paused) == 2.0

    def test_nothing_is_opened_for_nobody(self):
        track = Track()
        track.backlog.finish()

        async def session(backlog):
            pytest.fail("a session without audio")

        track.recognise(session)

    def test_a_session_that_ends_at_once_has_failed(self):
        track = Track(SECOND)

        async def session(backlog):
            pass

        track.recognise(session)
        assert track.said[0] == "Provider: a session that ended at once: tried again"
        assert len(track.paused) == 4

    def test_a_session_that_never_ends_has_failed(self, monkeypatch):
        monkeypatch.setattr(provider, "PATIENCE", 0.01)
        track = Track(SECOND)

        async def session(backlog):
            await asyncio.Event().wait()

        track.recognise(session, seconds=0)
        assert track.said[0] == "Provider: it does not answer: tried again"

    def test_whatever_is_raised_is_one_line(self):
        track = Track(SECOND)

        async def session(backlog):
            raise KeyError("results\n")

        track.recognise(session)
        assert track.said[0] == (
            "Provider: an answer that is none of its kind (KeyError: 'results\\n'): tried again"
        )


class TestFitForLog:
    @pytest.mark.parametrize("form", ["a/key+that=is quoted", "a%2Fkey%2Bthat%3Dis%20quoted"])
    def test_no_secret_is_shown(self, form):
        fit = Sessions(None, 1, [None, "", "a/key+that=is quoted"]).fit_for_log
        assert fit(f"see /?{form}\n") == "see /?(not shown)\\u000a"

    @pytest.mark.parametrize("length", [8, 100, 1199])
    def test_not_a_part_of_a_secret(self, length):
        """A reason has at most 123 bytes, and of a refusal 200 characters are taken."""
        token = "eyJraWQi" + "abcdefghij" * 120
        fit = Sessions(None, 1, [token]).fit_for_log
        assert fit(f"it was {token[:length]}: tried again") == "it was (not shown): tried again"

    @pytest.mark.parametrize("shown", ["secret-a+b/the-rest", "secret-a%2Bb%2Fthe-rest", "secret-a%2Bb"])
    def test_a_quoted_secret_whose_beginning_is_not_quoted(self, shown):
        fit = Sessions(None, 1, ["secret-a+b/the-rest"]).fit_for_log
        assert fit(f"see {shown}: tried again") == "see (not shown): tried again"

    def test_it_is_bounded(self):
        assert Sessions(None, 1).fit_for_log("x" * 1000) == "x" * 300
