"""Checks the road from this machine to Twilio, one thing after the other: `python -m mediastreams doctor`.

`machine` checks what is here, `road` what comes in through the public address, `twilio` what Twilio knows.
"""

from mediastreams.exceptions import MediaStreamsError


class FaultError(MediaStreamsError):
    """Something that is wrong; the sentence says what to mend."""


class SkippedError(MediaStreamsError):
    """Something that is not checked; the sentence says why."""
