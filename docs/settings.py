"""Writes `.env.example` and the table of `settings.md` from what `mediastreams/config.py` declares.

From the top folder:

    python -m docs.settings
"""

import ast
import inspect
import re
import textwrap
from dataclasses import fields
from pathlib import Path

from mediastreams import config

ROOT = Path(__file__).parent.parent
HEAD = "# Copy this file to .env and change what you need. The environment wins over .env.\n"


def files() -> dict[Path, str]:
    """Return the text of each file."""
    page = ROOT / "docs" / "settings.md"
    before, _, rest = page.read_text(encoding="utf-8").partition("| setting ")
    after = rest.partition("\n\n")[2]
    return {
        ROOT / ".env.example": _env_example(),
        page: f"{before}{_table()}\n{after}",
    }


def _table() -> str:
    rows = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    for (name, *others), default, allowed, meaning in _settings():
        second = "".join(f" (else `{other}`)" for other in others)
        rows.append(f"| `{name}`{second} | {f'`{default}`' if default else ''} | {allowed} | {meaning} |")
    return "\n".join(rows) + "\n"


def _env_example() -> str:
    blocks = [HEAD]
    for (name, *others), default, allowed, meaning in _settings():
        text = re.sub(r"\[(.*?)\]\((.*?)(#.*?)?\)", r"\1 (docs/\2)", meaning).replace("`", "")
        second = "".join(f" {other} is read where this is not set." for other in others)
        comment = textwrap.fill(
            f"{text}{second} Allowed: {allowed}.", 110, initial_indent="# ", subsequent_indent="# "
        )
        blocks.append(f"{comment}\n#{name}={default}\n")
    return "\n".join(blocks)


def _settings() -> list[tuple[list[str], str, str, str]]:
    """Return the names, the default, what is allowed and the meaning of each setting."""
    meanings = _meanings()
    return [
        (
            config.names(setting),
            "" if setting.default is None else str(setting.default),
            setting.metadata["kind"].allowed,
            meanings[setting.name],
        )
        for setting in fields(config.Settings)
    ]


def _meanings() -> dict[str, str]:
    """Return the string under each attribute of `Settings`, on one line."""
    (body,) = ast.parse(inspect.getsource(config.Settings)).body
    return {
        attribute.target.id: inspect.cleandoc(string.value.value).replace("\n", " ")
        for attribute, string in zip(body.body, body.body[1:], strict=False)
        if isinstance(attribute, ast.AnnAssign)
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
