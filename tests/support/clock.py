"""A clock that goes when it is told to."""


class Clock:
    """What a module takes for `time`; `now` is for the test to move."""

    def __init__(self, now=1000.0):
        self.now = now

    @classmethod
    def of(cls, module, monkeypatch, now=1000.0):
        """Return a new one, which `module` has from now on."""
        clock = cls(now)
        monkeypatch.setattr(module, "time", clock)
        return clock

    def monotonic(self):
        return self.now

    def time(self):
        return self.now + 1e9
