"""The Celery application is the one that web processes use as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent


def test_a_task_sent_by_any_thread_of_a_web_process_goes_to_our_redis():
    program = (
        "import threading, broker.wsgi\n"
        "from broker.audit.tasks import verify_recent\n"
        "said = []\n"
        "thread = threading.Thread(target=lambda: said.append(verify_recent.app.conf.broker_url))\n"
        "thread.start(); thread.join(); print(said[0])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )

    assert done.stdout.strip() == settings.CELERY_BROKER_URL, done.stderr
