"""What the simulated caller does with the messages of a server."""

import json
from base64 import b64encode

import pytest
from support.caller import call, events
from support.sound import channels_of


class TestTalkingBack:
    def reply(self, event, **fields):
        def send(ws, call):
            ws.send(json.dumps({"event": event, "streamSid": call[1]["streamSid"], **fields}))

        return {"when": "start", "send": send}

    def marks(self, messages):
        return [m["mark"]["name"] for m in messages if m["event"] == "mark"]

    def test_a_mark_returns_at_once_where_nothing_is_buffered(self, record):
        url, calls, replies = record
        replies.append(self.reply("mark", mark={"name": "one"}))
        call(url, "--seconds", "0.3")
        assert self.marks(calls[0]) == ["one"]

    def test_a_mark_returns_when_the_audio_before_it_has_played(self, record):
        url, calls, replies = record
        half_a_second = "//79" * (4000 // 3 + 1)
        replies += [
            self.reply("mark", mark={"name": "before"}),
            self.reply("media", media={"payload": half_a_second}),
            self.reply("mark", mark={"name": "after"}),
        ]
        call(url, "--seconds", "0.8")
        assert self.marks(calls[0]) == ["before", "after"]
        media_before = events(calls[0][: events(calls[0]).index("mark") + 1])
        second = len(calls[0]) - 1 - events(calls[0])[::-1].index("mark")
        assert events(calls[0][:second]).count("media") >= 20 > media_before.count("media")

    def test_clear_returns_the_marks_that_wait(self, record):
        url, calls, replies = record
        replies += [
            self.reply("media", media={"payload": "////" * 80_000}),
            self.reply("mark", mark={"name": "one"}),
            self.reply("mark", mark={"name": "two"}),
            self.reply("clear"),
        ]
        call(url, "--seconds", "0.3")
        assert self.marks(calls[0]) == ["one", "two"]

    @pytest.mark.parametrize(
        ("message", "warning"),
        [
            (b"{}", "Warning 31950: the server sent a binary message; Twilio takes text only"),
            ("{", "Warning 31951: invalid message: $: Input data was truncated"),
            (
                '{"event":"clear","streamSid":"MZ1"}',
                "Warning 31951: invalid message: $.streamSid: not this stream's, MZ1",
            ),
        ],
    )
    def test_a_wrong_message_is_warned_of_once(self, record, message, warning):
        url, _, replies = record
        replies += [{"when": "start", "send": lambda ws, call: ws.send(message)}] * 3
        assert call(url, "--seconds", "0.3").count(warning) == 1


class TestSaveHeard:
    def say(self, *parts):
        def send(ws, call):
            sid = call[1]["streamSid"]
            for part in parts:
                body = {"media": {"payload": b64encode(part).decode()}} if part else {}
                ws.send(json.dumps({"event": "media" if part else "clear", "streamSid": sid, **body}))

        return {"when": "start", "send": send}

    def test_it_is_as_long_as_the_call(self, record, tmp_path):
        url, _, replies = record
        replies.append(self.say(b"\x01" * 800, b"\x02" * 800))
        path = tmp_path / "heard.wav"
        printed = call(url, "--seconds", "1", "--save-heard", str(path))
        (codes,) = channels_of(path)
        assert printed.endswith(f"Heard: {len(codes) / 8000:.2f} s, saved in {path}\n")
        assert 8000 * 0.9 < len(codes) < 8000 * 3
        begin = codes.index(1)
        assert codes == b"\xff" * begin + b"\x01" * 800 + b"\x02" * 800 + b"\xff" * (
            len(codes) - begin - 1600
        )

    def test_what_is_cleared_is_not_heard(self, record, tmp_path):
        url, _, replies = record
        replies.append(self.say(b"\x01" * 80000, None, b"\x02" * 800))
        path = tmp_path / "heard.wav"
        path.write_text("an old one")
        call(url, "--seconds", "0.5", "--save-heard", str(path))
        (codes,) = channels_of(path)
        assert codes.count(1) < 4000
        assert codes.count(2) == 800

    def test_the_last_sample_is_what_is_played_then(self, record, tmp_path):
        url, _, replies = record
        replies.append(self.say(b"\x01" * 80000))
        path = tmp_path / "heard.wav"
        call(url, "--seconds", "0.5", "--save-heard", str(path))
        (codes,) = channels_of(path)
        assert codes.rstrip(b"\x01") == b"\xff" * codes.index(1)

    def test_nothing_heard_is_silence(self, record, tmp_path):
        url, _, _ = record
        path = tmp_path / "heard.wav"
        call(url, "--seconds", "0.3", "--save-heard", str(path))
        (codes,) = channels_of(path)
        assert set(codes) == {0xFF}


def test_ten_minutes_wait_and_no_more(record):
    url, _, replies = record
    message = {"event": "media", "media": {"payload": b64encode(bytes(600 * 8000)).decode()}}

    def send(ws, call):
        for _ in range(3):
            ws.send(json.dumps({**message, "streamSid": call[1]["streamSid"]}))

    replies.append({"when": "start", "send": send})
    printed = call(url, "--seconds", "1")
    warning = "Warning 31931: more than 10 minutes of audio wait to be played; it is discarded"
    assert printed.count(warning) == 1
