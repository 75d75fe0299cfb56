"""What was not understood yet is sent again, and errors are tried again: against sessions of the test's."""

import asyncio

import pytest

from mediastreams.transcription.session import MIN_CHUNK, Backlog, SessionError, recognise

SECOND = bytes(8000)


class Track:
    """A backlog, and what was heard and said of it."""

    def __init__(self, audio=b""):
        self.heard = []
        self.said = []
        self.paused = []
        self.backlog = Backlog(lambda *heard: self.heard.append(heard))
        if audio:
            self.backlog.feed(audio)

    def recognise(self, session, seconds=3600, beside=None):
        """Recognise the track in an event loop, with the coroutine `beside` in the same."""
        asyncio.run(self._recognise(session, seconds, beside))

    async def _recognise(self, session, seconds, beside):
        async def pause(seconds):
            self.paused.append(seconds)

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            if beside:
                tasks.create_task(beside)
            tasks.create_task(recognise(self.backlog, session, seconds, self.said.append, pause))


def numbered(seconds):
    """Return audio of which each second can be told."""
    return b"".join(bytes([n]) * 8000 for n in range(seconds))


class TestBacklog:
    def test_all_audio_in_its_order(self):
        track = Track()
        sent = []
        audio = bytes(range(256)) * 400

        async def feed():
            for n in range(0, len(audio), 160):
                track.backlog.feed(audio[n : n + 160])
                await asyncio.sleep(0)  # the session's turn
            track.backlog.finish()

        async def session(backlog):
            sent.extend([chunk async for chunk in backlog.chunks()])

        track.recognise(session, beside=feed())
        assert len(sent) > 100
        assert b"".join(sent) == audio
        assert all(len(chunk) >= MIN_CHUNK for chunk in sent[:-1])

    def test_words_stand_where_they_were_said(self):
        track = Track(SECOND * 10)

        async def session(backlog):
            await anext(backlog.chunks())
            backlog.take_text(" one ", False, 0.5, 1.0)
            backlog.take_text("one two", True, 0.5, 4.0)
            if len(track.heard) < 4:
                raise SessionError("dropped")
            backlog.finish()

        track.recognise(session)
        assert track.heard == [
            ("one", False, 0.5, 1.0),
            ("one two", True, 0.5, 4.0),
            ("one", False, 4.5, 5.0),  # the second session begins where the first one's words ended
            ("one two", True, 4.5, 8.0),
        ]

    def test_what_has_no_final_words_is_sent_again(self):
        track = Track(numbered(9))
        sessions = []

        async def session(backlog):
            sessions.append(await anext(backlog.chunks()))
            if len(sessions) == 1:
                backlog.take_text("the first three seconds", True, 0, 3)
                raise SessionError("dropped")
            backlog.finish()

        track.recognise(session)
        assert sessions == [numbered(9), numbered(9)[3 * 8000 :]]

    def test_not_more_than_ten_seconds_of_it(self):
        track = Track(numbered(25))
        sessions = []

        async def session(backlog):
            sessions.append(await anext(backlog.chunks()))
            if len(sessions) == 1:
                raise SessionError("dropped")
            backlog.finish()

        track.recognise(session)
        assert sessions == [numbered(25), numbered(25)[15 * 8000 :]]

    def test_it_is_bounded_and_what_is_dropped_is_counted(self):
        track = Track(numbered(40))
        assert track.backlog.dropped == 10 * 8000
        track.backlog.finish()
        sent = []

        async def session(backlog):
            sent.extend([chunk async for chunk in backlog.chunks()])

        track.recognise(session)
        assert sent == [numbered(40)[10 * 8000 :]]

    def test_what_was_sent_is_not_counted_as_dropped(self):
        track = Track()

        async def session(backlog):
            for _ in range(3):
                backlog.feed(SECOND * 20)
                await anext(backlog.chunks())
            backlog.finish()

        track.backlog.feed(SECOND)
        track.recognise(session)
        assert track.backlog.dropped == 0

    def test_a_session_that_has_failed_takes_no_audio_from_the_next(self):
        track = Track(numbered(2))
        failed = []
        sent = []

        async def session(backlog):
            if not failed:
                failed.extend([backlog.chunks(), backlog.chunks()])
                await anext(failed[0])
                raise SessionError("dropped")
            backlog.feed(SECOND)
            assert [[chunk async for chunk in chunks] for chunks in failed] == [[], []]
            backlog.finish()
            sent.extend([chunk async for chunk in backlog.chunks()])

        track.recognise(session)
        assert b"".join(sent) == numbered(2) + SECOND

    def test_a_session_ends_in_time_and_the_next_goes_on(self):
        track = Track(SECOND)
        sessions = []
        fed = 1

        async def session(backlog):
            nonlocal fed
            sessions.append(0)
            async for chunk in backlog.chunks():
                sessions[-1] += len(chunk) / 8000
                backlog.take_text("words", True, 0, sessions[-1])
                if len(sessions) < 3:
                    backlog.feed(SECOND)
                    fed += 1
                else:
                    backlog.finish()

        track.recognise(session, seconds=0.05)
        assert len(sessions) == 3
        assert sum(sessions) == fed == track.heard[-1][3]


class TestErrors:
    def test_a_few_tries_then_no_more(self):
        track = Track(SECOND)

        async def session(backlog):
            raise SessionError("Provider: refused with 403")

        track.recognise(session)
        assert track.said == [
            "Provider: refused with 403: tried again",
            "Provider: refused with 403: given up, no transcript from here",
        ]
        assert track.paused == [0.5, 1.0, 2.0, 4.0]

    def test_success_lets_it_try_again(self):
        track = Track(SECOND)
        sessions = []

        async def session(backlog):
            sessions.append(1)
            if len(sessions) == 20:
                backlog.finish()
                return [chunk async for chunk in backlog.chunks()]
            if len(sessions) % 3 == 0:
                backlog.take_text("word", True, 0, 0)
            raise SessionError("dropped")

        track.recognise(session)
        assert set(track.said) == {"dropped: tried again"}
        assert max(track.paused) == 2.0

    def test_nothing_is_opened_for_nobody(self):
        track = Track()
        track.backlog.finish()

        async def session(backlog):
            pytest.fail("a session without audio")

        track.recognise(session)
