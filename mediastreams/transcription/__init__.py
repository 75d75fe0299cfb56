"""Live transcription: what is said on a call, as text while it is said.

`transcriber`         the consumer that feeds an engine with a stream's audio and shows the texts
`base`                what every engine offers
`select`              chooses the engine that the settings ask for
`process_engine`      the server's side of an engine: every recogniser runs in a process beside the server
`process_protocol`    what goes between the two

In the engine process:
`moonshine`           the local recogniser, without an account
`provider`            serves all tracks with a provider's recogniser
`session`             keeps audio until its words are final, and tries again after errors
`google`              Google Cloud Speech-to-Text
`websocket_session`   a provider's WebSocket: verified, bounded, without redirects
`amazon`, `watson`    Amazon Transcribe and IBM Watson Speech to Text, over such a WebSocket
"""
