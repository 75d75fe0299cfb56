"""The interface: what a consumer has that defines nothing, and that every method is called."""

import inspect

from support.consumers import call, mark
from support.streams import SID, dtmf, media, start, stop

from mediastreams.consumers.base import Consumer
from mediastreams.consumers.registry import Consumers
from mediastreams.streams.transcript import Transcript

TRANSCRIPT = Transcript("inbound", "hello", True, 0.0, 0.1)


class Recogniser(Consumer):
    def __init__(self, stream, publish):
        super().__init__(stream)
        self.stop = lambda: publish(TRANSCRIPT)


def test_a_consumer_that_defines_nothing_takes_a_whole_call(caplog):
    consumers = Consumers()
    made = []
    consumers.register(lambda stream: made.append(Consumer(stream)) or made[0])
    stream = call(consumers, start(), media(2, 0), dtmf(3), mark(4), stop(5))
    assert made[0].stream is stream
    assert made[0].is_finished() is True
    assert caplog.records == []


def test_each_method_is_called_with_what_its_docstring_says():
    got = {}

    class Everything(Consumer):
        def is_finished(self):
            got["is_finished"] = ()
            return True

    def note(name):
        return lambda self, *arguments: got.setdefault(name, arguments)

    methods = {name for name, _ in inspect.getmembers(Consumer, inspect.isfunction) if name[0] != "_"}
    for name in methods - {"is_finished"}:
        setattr(Everything, name, note(name))
    consumers = Consumers()
    consumers.register(Everything)
    consumers.recognise(Recogniser)
    call(consumers, start(), media(2, 20), dtmf(3), mark(4), stop(5))
    got.pop("flush", None)  # not where the end comes before the first tick
    assert got == {
        "start": (start(),),
        "media": (media(2, 20),),
        "audio": ("inbound", 160, bytes(160)),
        "dtmf": (dtmf(3),),
        "mark": (mark(4),),
        "transcript": (TRANSCRIPT,),
        "stop": (),
        "is_finished": (),
    }
    assert methods == {*got, "flush", "checkpoint", "resume", "abandon"}  # which only a worker calls


def test_a_consumer_may_finish_later(caplog):
    asked = []

    class Later(Consumer):
        def is_finished(self):
            asked.append(self.stream.name)
            return len(asked) == 3

    consumers = Consumers()
    consumers.register(Later)
    call(consumers, start(), stop(2))
    assert asked == [SID] * 3
    assert caplog.records == []
