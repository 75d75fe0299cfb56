"""What is said on a call, as text while it is said.

`engine`       what turns audio into words: the face of all that follow
`engines`      which one the settings ask for
`transcriber`  the consumer that lets an engine hear a stream, and shows what it hears
`process`      an engine in a process of its own
`pipe`         what goes between the two
`local`        that process, without an account: Moonshine
`cloud`        what the providers have in common: what was not understood yet, and trying again
`google`       Google Cloud Speech-to-Text, in such a process too
`dialogue`     a provider's WebSocket, on gevent sockets
`amazon`       Amazon Transcribe, over a WebSocket
`watson`       IBM Watson Speech to Text, over a WebSocket
"""
