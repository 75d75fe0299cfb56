"""Reads a Markdown file of the project: its sections, code blocks, anchors and links."""

import re
from pathlib import Path

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)\n *```$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


class Document:
    """One Markdown file. A section goes from its heading to the next one of any level."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        # Headings are looked for outside of blocks: a comment of a shell begins as a heading does.
        blank = _FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), self.text)
        self._starts = [(match[1], match.end()) for match in _HEADING.finditer(blank)]
        self.headings = [heading for heading, _ in self._starts]
        self.links = _LINK.findall(blank)

    def section(self, heading: str) -> list[tuple[str, str]]:
        """Return the blocks below a heading as (language, text). Raises `KeyError` without such a heading."""
        if heading not in self.headings:
            raise KeyError(f"{self.path.name} has no heading {heading!r}, but {self.headings}")
        i = self.headings.index(heading)
        end = self._starts[i + 1][1] if i + 1 < len(self._starts) else len(self.text)
        return [
            (block[2], _unindented(block)) for block in _FENCE.finditer(self.text, self._starts[i][1], end)
        ]

    def blocks(self, heading: str, language: str) -> list[str]:
        """Return the texts of a section's blocks in one language."""
        return [text for kind, text in self.section(heading) if kind == language]

    def anchors(self) -> list[str]:
        """Return what a link may have behind its #, as GitHub makes it of the headings."""
        return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in self.headings]


def _unindented(block: re.Match[str]) -> str:
    return "\n".join(line.removeprefix(block[1]) for line in block[3].split("\n"))
