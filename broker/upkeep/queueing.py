"""After every change of what is published: write the copy and look after the SAML providers, as soon as Celery can.

The schedule does both anyway, so a queue that is away loses time only.
"""

from __future__ import annotations

import logging
import threading

from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError

log = logging.getLogger("daypass.upkeep")

PATIENCE = 1.0
"""Seconds that whoever changed a key waits for the queue."""


def keys_changed() -> None:
    """Called after the commit, in the process that changed a key. Raises nothing."""
    if current_app.conf.task_always_eager:
        _send()
        return
    sender = threading.Thread(target=_send, daemon=True)
    sender.start()
    sender.join(timeout=PATIENCE)


def _send() -> None:
    from broker.upkeep import tasks  # which call the services that change keys

    try:
        if settings.DAYPASS_PUBLISH_TO:
            tasks.publish_copy.apply_async(retry=False, expires=300)
        tasks.follow_up_all.apply_async(retry=False, expires=300)
    except (OperationalError, OSError) as error:
        log.warning("the queue is away", extra={"error": type(error).__name__})
