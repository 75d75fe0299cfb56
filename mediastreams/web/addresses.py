"""The lines at the start that tell a person what to paste at Twilio."""

from mediastreams.config import Settings


def addresses(settings: Settings, port: int) -> list[str]:
    """Return these lines for a server that listens on `port`."""
    if settings.public_url is None:
        return [
            f"To see what to paste at Twilio, set PUBLIC_URL to the address that `ngrok http {port}` shows"
        ]
    web = f"https{settings.public_url.removeprefix('wss')}"
    dials = "" if settings.dial_number else " (set DIAL_NUMBER to one that you can answer)"
    return [
        f"To paste into a TwiML Bin, as the Stream's url: {settings.public_url}/media",
        f"Or without a Bin, as the number's webhook: {web}/twiml/start-stream{dials}",
    ]
