"""Fixtures of the page's tests."""

from support.browser import browser, open_page

__all__ = ["browser", "open_page"]
