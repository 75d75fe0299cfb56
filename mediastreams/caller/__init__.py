"""A simulated Twilio: `python -m mediastreams.caller`.

`plan` turns the command line and a TwiML document into what to call; `call` makes one call, `phone` does what
Twilio does with the server's messages, `websocket` and `http` are Twilio's connections to the server.
"""

from pathlib import Path

SAMPLE = Path(__file__).with_name("sample.wav")  # what is said unless --audio names another file
