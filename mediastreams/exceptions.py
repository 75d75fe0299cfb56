"""The exceptions of the package, as one tree.

    MediaStreamsError
        SettingError            config                            a setting whose value cannot be used
        MessageError            protocol.messages                 a text that is not one of Twilio's messages
        TwimlError              protocol.twiml                    a TwiML document that starts no stream
        SendError               streams.playback                  what cannot be sent to Twilio
        SessionError            transcription.session             a session that a provider refused or ended
            NotConnectedError   transcription.websocket_session   a WebSocket that could not be opened
        CallError               caller.websocket                  a call that Twilio would report as failed
        OptionError             caller.plan                       a command line that cannot be used
        NgrokError              ngrok                             an agent of ngrok that tells no tunnels
        FaultError              doctor                            what a check has found
        SkippedError            doctor                            why something is not checked
        ApiError                rest.api                          what Twilio's REST API refuses
        AudioError              caller.sound_file                 a sound file that cannot be read
        TakenOverError          audio.files                       a file that another process took over, later
        AwayError               cluster.connection                a Redis that cannot be reached, or refuses
        NotTakenError           call_webhook.poster               an account that the receiver did not take
        WireError               viewers.wire                      what a server's page sent and is not right
        EntryError              cluster.entries                   an entry on Redis that cannot be read

A WebSocket that has ended raises gevent-websocket's `WebSocketError`, as in the tutorial's stack.
"""


class MediaStreamsError(Exception):
    """What every exception of this package is."""
