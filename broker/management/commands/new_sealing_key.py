"""manage.py new_sealing_key: a key for DAYPASS_SEALING_KEYS."""

from __future__ import annotations

import base64
import os
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Print a new sealing key for DAYPASS_SEALING_KEYS. Nothing is stored."
    # It is asked for before there is a configuration to check.
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(base64.urlsafe_b64encode(os.urandom(32)).decode())
