"""The WSGI application that gunicorn serves. With unsafe settings it does not start (threats.md R62)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")
_django = get_wsgi_application()

from accounts.early import Remembering  # noqa: E402  (Django has to be set up first)
from broker.checks import refuse_to_start  # noqa: E402

application = Remembering(_django)

refuse_to_start()
