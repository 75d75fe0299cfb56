"""The lines at the start that tell a person where the page is, and what to paste at Twilio."""

from mediastreams.config import Settings
from mediastreams.text import command


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
    return [*to_watch(settings, port, token, page), *to_paste(settings, port)]


def to_watch(settings: Settings, port: int, token: str, page: str = "/") -> list[str]:
    """Return the line that tells where the page is, if there is one; for the rest see `addresses`."""
    url = f"{local_url(settings, port)}{page}"
    if settings.page_token == "off":
        return []
    if settings.page_token is not None:
        return [f"Watch the calls at {url} (log in with PAGE_TOKEN)"]
    if settings.log_format == "json":  # it is collected, and read by others
        return [f"Watch the calls at {url} (set PAGE_TOKEN: a log has no token)"]
    return [f"Watch the calls at {url}#{token}"]


def to_paste(settings: Settings, port: int) -> list[str]:
    """Return the lines that tell what to paste at Twilio; without a public address, how to be told."""
    if settings.public_url is None:
        how = f"run `ngrok http {port}`"
        if settings.ngrok_api == "off":
            how = f"set PUBLIC_URL to the address that `ngrok http {port}` shows"
        return [f"To see what to paste at Twilio, {how}"]
    web = web_url(settings.public_url)
    dials = "" if settings.dial_number else " (set DIAL_NUMBER to one that you can answer)"
    return [
        f"To paste into a TwiML Bin, as the Stream's url: {settings.public_url}/media",
        f"Or with `{command('number')}`, as the number's webhook: {web}/twiml/start-stream{dials}",
    ]


def web_url(url: str) -> str:
    """Return the https:// address beside a wss:// one."""
    return f"https{url.removeprefix('wss')}"
