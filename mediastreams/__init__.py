"""Twilio Media Streams on Flask: what the tutorial in `app.py` does not show.

`protocol`       what Twilio documents: messages, signatures, TwiML, error codes
`audio`          mu-law, the WAV file, the timeline of a track
`streams`        one stream: order and loss of its messages, playback, transcripts
`consumers`      what consumes a stream: the interface, the threads, recording, level meter
`transcription`  recognisers, and the consumer that feeds them
`server`         takes calls: handshake, WebSocket, limits, drain
`web`            answers over HTTP: TwiML, statusCallback, metrics
`caller`         a simulated Twilio
"""
