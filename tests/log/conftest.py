"""What the tests of the log share: who is told of the lines that are written."""

import pytest


class Page:
    """Is told of records, as the page is; `lines` has their texts."""

    def __init__(self):
        self.lines = []

    def add(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def page():
    return Page()
