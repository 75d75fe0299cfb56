"""Servers with a recogniser that needs no model, as programs."""

# app.py with a recogniser that needs no model. It hears a word each 0.3 s, of the callee each 0.37 s.
# Six are a sentence. What is between < and > in a stream's SID, it hears as well.
PROGRAM = """
import re, runpy
from mediastreams.transcription import select

WORDS = "every word is made up here".split()

class Recognition:
    is_finished, dropped = False, 0.0

    def __init__(self, name, position, on_text, rate):
        self.on_text, self.rate, self.begin, self.end, self.said = on_text, rate, position, position, 0
        self.seconds = 0.37 if name.endswith("outbound") else 0.3
        self.words = [*WORDS, *re.findall("<.*>", name)]

    def add(self, position, payload):
        self.end = position + len(payload)

    def flush(self):
        samples = int(self.seconds * self.rate)
        while (words := (self.end - self.begin) // samples) > self.said:
            self.said = min(words, len(self.words))
            final, end = self.said == len(self.words), self.begin + self.said * samples
            self.on_text(" ".join(self.words[: self.said]), final, self.begin, end, 0.1)
            if final:
                self.begin, self.said = end, 0

    def finish(self):
        self.flush()
        self.is_finished = True

class Engine:
    def recognise(self, name, position, on_text, rate):
        return Recognition(name, position, on_text, rate)

select.choose = lambda settings: Engine()
runpy.run_path("app.py", run_name="__main__")
"""

# What makes app.py's recogniser say the same at each key.
SPEAKING = """
import mediastreams.extension as extension
from mediastreams.consumers.base import Consumer
from mediastreams.streams.transcript import Transcript

class Recogniser(Consumer):
    def __init__(self, stream, publish):
        super().__init__(stream)
        self.publish = publish

    def dtmf(self, message):
        for text, final in ("hel", False), ("hello", True), ("bye", False), ("", True):
            self.publish(Transcript("inbound", text, final, 0.5, 1.0))

register = extension.MediaStreams._register_consumers
extension.MediaStreams._register_consumers = lambda self: (
    self._consumers.recognise(Recogniser), register(self)
)
"""

# A worker whose recogniser needs no model: each 1.5 s of a track are a sentence, which says from where it is.
# A partial text comes each 0.3 s.
WORKER = """
from mediastreams.__main__ import main
from mediastreams.transcription import select

class Recognition:
    is_finished, dropped = False, 0.0

    def __init__(self, name, position, on_text, rate):
        self.on_text, self.rate, self.begin, self.end, self.said = on_text, rate, position, position, 0

    def add(self, position, payload):
        self.end = position + len(payload)

    def flush(self):
        step = int(0.3 * self.rate)
        while (self.end - self.begin) // step > self.said:
            self.said += 1
            end = self.begin + self.said * step
            text = f"from {self.begin / self.rate:.1f} s" + " on" * self.said
            self.on_text(text, self.said == 5, self.begin, end, 0.1)
            if self.said == 5:
                self.begin, self.said = end, 0

    def finish(self):
        self.flush()
        self.is_finished = True

class Engine:
    def recognise(self, name, position, on_text, rate):
        return Recognition(name, position, on_text, rate)

select.require = lambda settings: Engine()
main()
"""
