"""The Celery application: worker and beat are started with `-A broker.celery`.

Celery's own Django support closes database and cache connections around every task and after every fork; nothing is
shared between processes.
"""

import logging.config
import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, celeryd_init, setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")
app = Celery("daypass")
app.config_from_object("django.conf:settings", namespace="CELERY")
# The tasks of every stage are listed in the index module of each app: broker/tasks.py and accounts/tasks.py.
app.autodiscover_tasks()


@setup_logging.connect
def _log_as_the_web_does(**_: Any) -> None:
    """One JSON object a line here as well. Without this Celery prints its own format beside ours."""
    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)


@celeryd_init.connect
@beat_init.connect
def _refuse_to_start(**_: Any) -> None:
    """Neither worker nor beat starts with unsafe settings. SystemExit, because Celery goes on after any other."""
    import django
    from django.apps import apps
    from django.core.exceptions import ImproperlyConfigured

    if not apps.ready:
        django.setup()
    from broker.checks import refuse_to_start

    try:
        refuse_to_start()
    except ImproperlyConfigured as problem:
        raise SystemExit(str(problem)) from None
