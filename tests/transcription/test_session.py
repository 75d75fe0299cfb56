"""What has no final text yet is sent again: with sessions of the test's."""

import asyncio

from support.provider import SECOND, Track

from mediastreams.transcription.session import SessionError


def numbered(seconds):
    """Return audio of which each second can be told."""
    return b"".join(bytes([n]) * 8000 for n in range(seconds))


async def take(backlog):
    """Take all audio that waits, as a session does."""
    chunks = backlog.chunks()
    taken = b""
    while backlog._unsent():
        taken += await anext(chunks)
    return taken


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
        assert all(len(chunk) >= 800 for chunk in sent[:-1])

    def test_words_stand_where_they_were_said(self):
        track = Track(SECOND * 10)

        async def session(backlog):
            await take(backlog)
            backlog.add_text(" one ", False, 0.5, 1.0)
            backlog.add_text("one two", True, 0.5, 4.0)
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
            sessions.append(await take(backlog))
            if len(sessions) == 1:
                backlog.add_text("the first three seconds", True, 0, 3)
                raise SessionError("dropped")
            backlog.finish()

        track.recognise(session)
        assert sessions == [numbered(9), numbered(9)[3 * 8000 :]]

    def test_not_more_than_ten_seconds_of_it(self):
        track = Track(numbered(25))
        sessions = []

        async def session(backlog):
            sessions.append(await take(backlog))
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
        assert b"".join(sent) == numbered(40)[10 * 8000 :]
        assert max(map(len, sent)) == 4000

    def test_what_is_dropped_before_the_first_chunk_shifts_no_words(self):
        """A provider that takes 30 s to be connected."""
        track = Track(SECOND)

        async def session(backlog):
            for _ in range(40):
                backlog.feed(SECOND)
            await take(backlog)
            backlog.add_text("word", True, 2, 3)
            backlog.finish()

        track.recognise(session)
        assert track.backlog.dropped == 11 * 8000
        assert track.heard == [("word", True, 13.0, 14.0)]

    def test_what_is_dropped_later_ends_the_session(self):
        track = Track(SECOND * 2)
        sessions = []

        async def session(backlog):
            sessions.append(0)
            async for chunk in backlog.chunks():
                sessions[-1] += len(chunk) / 8000
                if not track.heard:
                    backlog.add_text("before", True, 0, 0.5)
                    backlog.feed(SECOND * 40)
                    backlog.finish()
            if len(sessions) > 1:
                backlog.add_text("word", True, 2, 3)

        track.recognise(session)
        assert sessions == [0.5, 30.0]
        assert track.heard == [("before", True, 0.0, 0.5), ("word", True, 14.0, 15.0)]  # 12 s + 2 s

    def test_half_a_surrogate_pair(self):
        """Neither JSON nor MessagePack can have it."""
        track = Track(SECOND)

        async def session(backlog):
            await take(backlog)
            backlog.add_text("half \ud83d", True, 0, 0.5)
            backlog.finish()

        track.recognise(session)
        assert track.heard == [("half ?", True, 0.0, 0.5)]

    def test_what_was_sent_is_not_counted_as_dropped(self):
        track = Track()

        async def session(backlog):
            for _ in range(3):
                backlog.feed(SECOND * 20)
                await take(backlog)
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
        fed = 1.0

        async def session(backlog):
            nonlocal fed
            sessions.append(0)
            async for chunk in backlog.chunks():
                sessions[-1] += len(chunk) / 8000
                backlog.add_text("words", True, 0, sessions[-1])
                if len(sessions) < 3:
                    backlog.feed(chunk)
                    fed += len(chunk) / 8000
                else:
                    backlog.finish()

        track.recognise(session, seconds=0.05)
        assert len(sessions) == 3
        assert sum(sessions) == fed == track.heard[-1][3]
