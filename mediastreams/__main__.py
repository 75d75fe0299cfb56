"""The command line: `python -m mediastreams COMMAND`."""

from importlib import import_module

import click

from mediastreams.text import escape_unknown

# The module that has a command of that name.
_COMMANDS = {
    "call": "mediastreams.caller.__main__",
    "dial": "mediastreams.rest.dial",
    "doctor": "mediastreams.doctor.__main__",
    "number": "mediastreams.rest.number",
    "work": "mediastreams.cluster.__main__",
}


class _Commands(click.Group):
    """Imports the module of a command when the command is asked for: each has libraries of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(_COMMANDS[cmd_name]), cmd_name)
        return command


@click.group(cls=_Commands)
def main() -> None:
    """Twilio Media Streams on Flask."""
    escape_unknown()


if __name__ == "__main__":
    main()
