"""Twilio's error and warning codes that a Media Stream may meet: what they mean, and what to check.

Sources: https://www.twilio.com/docs/api/errors, one page a code; the titles are those of that dictionary.
"""

import re
from typing import NamedTuple

# Code, title, meaning, and what to check: one row a code.
_TABLE = """\
11200 | HTTP retrieval failure | HTTP retrieval failure | \
what the server answers to that address: 404, there is no such document; 403, the signature
11205 | HTTP connection failure | HTTP connection failure | \
that the server runs, and that tunnel and firewall let Twilio through
11210 | HTTP bad host name | HTTP bad host name | the host name in the address
11220 | SSL/TLS Handshake Error | TLS failure | the certificate, and that the port speaks TLS
11750 | TwiML response body too large | TwiML response body too large | that it is 64 kB at most
12100 | Document parse failure | document parse failure | that the TwiML is well-formed XML
12200 | Schema validation warning | schema validation warning | the names of verbs and attributes
12300 | Invalid Content-Type | invalid Content-Type | that the TwiML is sent as text/xml
31900 | Stream - Unknown Error | stream error | the Twilio Console: Monitor, Logs, Errors
31901 | Stream - WebSocket - Connection Timeout | connection timeout | \
the host in the Stream's url, and that firewall and tunnel let Twilio through
31902 | Stream - WebSocket - Connection Refused | connection refused | \
that the server runs, and the port in the Stream's url
31903 | Stream - WebSocket - Connection Broken Pipe | connection broken | \
whether the server, the tunnel or a proxy was restarted during the call
31904 | Stream - WebSocket - Host Unreachable | host unreachable | \
that the host name exists, and that its address is a public one
31910 | Stream - WebSocket - SSL Protocol Error | TLS failure | \
the certificate, which must not be self-signed, and that the port speaks TLS
31920 | Stream - WebSocket - Handshake Error | handshake failed | \
the path in the Stream's url, without a query string, PUBLIC_URL and TWILIO_AUTH_TOKEN; \
a refusal by this server is in its log
31921 | Stream - WebSocket - Close Error | server closed the WebSocket | \
this server's log: it says why it closed the stream
31922 | Stream - WebSocket - URL Schema Not Supported | URL scheme not supported | \
that the Stream's url begins with wss://
31923 | Stream - WebSocket - Malformed URL | malformed URL | the Stream's url, letter by letter
31924 | Stream - Websocket - Protocol Error | WebSocket protocol error | \
that nothing is sent to a stream of <Start>, and what a proxy does to WebSocket frames
31930 | Stream - Media - Buffer Overflow | the server reads too slowly | \
the load of this machine, and the way from Twilio to it: audio was discarded
31931 | Stream - Media - Media Discarded | media discarded | \
that no more than 10 minutes of audio wait to be played
31940 | Stream - Invalid connectorName attribute in TwiML. | invalid connectorName | \
the Stream's connectorName
31941 | Stream - Invalid Track configuration | invalid track | \
the Stream's track: <Connect> takes inbound_track only
31942 | Stream - Invalid connector configuration | invalid connector configuration | \
the connector's configuration in the Twilio Console
31950 | Stream - Protocol - Malformed Message | malformed message | \
that messages to Twilio are text, not binary
31951 | Stream - Protocol - Invalid Message | invalid message | \
the messages to Twilio: exactly the documented fields, and the stream's own streamSid
31952 | Stream Extension not found: | stream extension not found | the name of the stream's extension
31953 | Stream - Media - RTP timeout | no audio from the call | \
whether the call had ended: its carrier sent no audio any more
31954 | Stream extension unsupported status | stream extension in an unsupported status | \
the stream's extension in the Twilio Console
31960 | Stream - Quota exceeded | quota exceeded | the Dialogflow quota
"""


class Entry(NamedTuple):
    """One code: Twilio's title, what it means in a few words, and what to check."""

    title: str
    meaning: str
    check: str


ERRORS = {int(code): Entry(*row) for code, *row in (row.split(" | ") for row in _TABLE.splitlines())}


def meaning(code: int) -> str:
    """Return a code and what it means, such as `31902 connection refused`."""
    return f"{code} {ERRORS[code].meaning}"


def find(text: str) -> int | None:
    """Return the code that a StreamError names by its number or its title, None where it names none.

    Twilio documents that parameter as a text, without a form.
    """
    for number in re.findall(r"(?<!\d)\d{5}(?!\d)", text):
        if int(number) in ERRORS:
            return int(number)
    folded = text.casefold()
    for code, entry in ERRORS.items():
        if entry.title.strip(".:").casefold() in folded:
            return code
    return None
