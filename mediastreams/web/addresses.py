"""The lines at the start that tell a person where the page is, and what to paste at Twilio."""

from mediastreams.config import Settings


def local_url(settings: Settings, port: int) -> str:
    """Return the address of a server that listens on `port`, for who sits at this machine."""
    host = settings.http_server_host
    if host in ("127.0.0.1", "::1", "0.0.0.0", "::"):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def addresses(settings: Settings, port: int, token: str, page: str = "/") -> list[str]:
    """Return these lines for a server that listens on `port` and has its page at the path `page`.

    `token` is the page's; it is shown only if it is not that of the settings.
    """
    return [*_page(settings, f"{local_url(settings, port)}{page}", token), *_to_paste(settings, port)]


def _page(settings: Settings, url: str, token: str) -> list[str]:
    if settings.page_token == "off":
        return []
    if settings.page_token is not None:
        return [f"Watch the calls at {url} (log in with PAGE_TOKEN)"]
    if settings.log_format == "json":  # it is collected, and read by others
        return [f"Watch the calls at {url} (set PAGE_TOKEN: a log has no token)"]
    return [f"Watch the calls at {url}#{token}"]


def _to_paste(settings: Settings, port: int) -> list[str]:
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
