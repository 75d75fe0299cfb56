"""The command `mediastreams`."""

import sys

import click


@click.group()
def main() -> None:
    """Tools for a Twilio Media Streams server."""


@main.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def call(arguments: tuple[str, ...]) -> None:
    """Call a Media Streams server as Twilio does, without a phone."""
    from mediastreams.caller.__main__ import main as make_calls  # it loads gevent

    sys.exit(make_calls(list(arguments)))


if __name__ == "__main__":
    main()
