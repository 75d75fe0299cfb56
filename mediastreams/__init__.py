"""What the tutorial in `app.py` does not show, in reading order.

`messages`   Twilio's messages as types: parse, print, send
`track`      where each chunk of audio belongs in the time of the call
`playback`   talking back: what a stream is sent, and what becomes of its marks
`stream`     the life of one stream: order, gaps, counts, the closing summary
`consumer`   what consumes a stream: the face of a recording, and of your own
`signature`  X-Twilio-Signature: to make one, and to judge it
`mulaw`      G.711 mu-law to 16-bit PCM and back, and its level
`wav`        a WAV file that is valid while it grows
`recording`  a stream's audio as a WAV file, and its account beside it
`config`     the settings, from the environment and `.env`
`log`        the lines of the log, as text or as JSON
`transcript` what was said, and as WebVTT
`twiml`      the `<Stream>` of a TwiML document
`errors`     Twilio's error codes: what they mean, and what to check
`buffer`     what Twilio does with the audio that it is sent
`audio`      a person's sound file as a phone carries it

The modules above know of no socket, no Flask and no gevent. Those below are where these meet:

`sockets`    Flask-Sockets' decorator on today's Flask
`frames`     RFC 6455 on bytes
`websocket`  one WebSocket: receive, send, close, and what bounds it
`consumers`  who consumes the streams, and the threads in which they do
`console`    the last lines of a terminal, rewritten in place
`meter`      who is speaking, and how loud, on the console
`transcription`  what is said, while it is said: a package with a map of its own
`webhooks`   what else Twilio asks: the TwiML of a call, and how its streams went
`echo`       the caller's voice, played back
`live`       the live WebSockets: whose turn it is to be read, and who is overdue
`metrics`    what Prometheus is told
`server`     the handler that upgrades to a WebSocket, and `serve`
`worker`     the same under gunicorn
`client`     the WebSocket as Twilio opens it
`fetch`      Twilio's HTTP requests, as the simulated caller makes them
`caller`     a simulated Twilio: `python -m mediastreams.caller`
"""
