"""Handing work to Celery from within a request: a queue that is away costs a request one second, never its answer."""

from __future__ import annotations

import logging
import queue
import threading

from celery import current_app
from kombu.exceptions import OperationalError

log = logging.getLogger("daypass.accounts")

PATIENCE = 1.0
"""Seconds that a request waits for the queue. The Redis client itself tries again for six before it gives up."""

KEPT = 300
"""Seconds after which a message that nobody took has lost its meaning."""


def queue_refresh(provider_id: str) -> bool:
    """Queue a refresh of one provider; whether the queue took it within `PATIENCE`. Raises nothing."""
    if current_app.conf.task_always_eager:
        return _send(provider_id)
    taken: queue.SimpleQueue[bool] = queue.SimpleQueue()
    threading.Thread(target=lambda: taken.put(_send(provider_id)), daemon=True).start()
    try:
        return taken.get(timeout=PATIENCE)
    except queue.Empty:
        log.warning("the queue is slow", extra={"provider_id": provider_id})
        return False


def _send(provider_id: str) -> bool:
    from accounts.tasks import refresh_one_provider  # the tasks call these services

    try:
        refresh_one_provider.apply_async((provider_id,), retry=False, expires=KEPT)
    except (OperationalError, OSError) as error:
        log.warning(
            "the queue is away", extra={"provider_id": provider_id, "error": type(error).__name__}
        )
        return False
    return True
