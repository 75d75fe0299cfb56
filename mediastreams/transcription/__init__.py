"""Live transcription: what is said on a call, as text while it is said.

`transcriber`         the consumer that hands a stream's audio to an engine, and the one that shows the texts
`select`              chooses the engine that the settings ask for
`process_engine`      the server's side of an engine: every recogniser runs in a process beside the server
`process_protocol`    what goes between the two

In the engine process:
`process_main`        serves all tracks of the server with one recogniser
`session`             keeps audio until its text is final
`moonshine`           the local recogniser, without an account
`provider`            holds one session after another, and tries again after errors
`google`              Google Cloud Speech-to-Text
`websocket_session`   a session over a WebSocket, bounded in size and time
`amazon`, `watson`    Amazon Transcribe and IBM Watson Speech to Text, over such a WebSocket
"""
