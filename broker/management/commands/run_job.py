"""manage.py run_job: any periodic job, now, in this process; for operators, and for machines without a worker."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from broker.celery import app


class Command(BaseCommand):
    help = "Run a periodic job now, in this process. Without a name: list them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="a job, as listed without a name")

    def handle(self, *args: Any, **options: Any) -> None:
        jobs = {name: str(entry["task"]) for name, entry in settings.CELERY_BEAT_SCHEDULE.items()}
        name = options["name"]
        if name is None:
            for job in sorted(jobs):
                self.stdout.write(job)
            return
        if name not in jobs:
            raise CommandError(f"There is no job {name!r}. There are: {', '.join(sorted(jobs))}.")
        app.loader.import_default_modules()
        if jobs[name] not in app.tasks:
            raise CommandError(f"The task {jobs[name]} of job {name!r} is not installed.")
        app.tasks[jobs[name]]()
        self.stdout.write(f"{name}: done")
