"""The Celery application: worker and beat are started with `-A broker.celery`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")
app = Celery("daypass")
app.config_from_object("django.conf:settings", namespace="CELERY")
# The tasks of every stage are listed in the index module of each app: broker/tasks.py and accounts/tasks.py.
app.autodiscover_tasks()
