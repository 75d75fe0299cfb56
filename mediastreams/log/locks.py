"""The locks of `logging`, where gevent has patched `threading`."""

import _thread
import logging
from typing import Any


def use_system_locks() -> None:
    """Give all handlers, those that are there and those to come, locks of the system, and so all loggers.

    gevent's patch has given them its own. But threads beside the server's log too, and where two of them met
    at gevent's lock, one has waited for ever. Greenlets do not wait for each other then: a handler that waits
    for the network in the middle of a line may mix two of them.
    """
    logging._lock = _thread.RLock()  # type: ignore[attr-defined]
    logging.Handler.createLock = _create_lock  # type: ignore[assignment,method-assign]
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        if (handler := reference()) is not None:
            handler.createLock()


def _create_lock(handler: Any) -> None:
    """Do as the method of `logging.Handler` does."""
    handler.lock = _thread.RLock()
    logging._register_at_fork_reinit_lock(handler)  # type: ignore[attr-defined]
