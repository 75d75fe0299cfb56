"""Providers on this machine, as fixtures."""

from support.provider import start_https, start_provider, tls

__all__ = ["start_https", "start_provider", "tls"]
