"""Fixtures of the page's tests."""

from support.browser import browser, open_page
from support.redis import redis_server, start_redis

__all__ = ["browser", "open_page", "redis_server", "start_redis"]
