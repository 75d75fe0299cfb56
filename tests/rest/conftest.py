"""Fixtures of the commands that use Twilio's REST API."""

import pytest
from support.rest import Rest


@pytest.fixture
def rest():
    with Rest() as rest:
        yield rest
