"""The environment of every test: production mode, as an operator would configure it, and a real Valkey.

A plugin (`-p tests.environment` in pyproject.toml), because pytest-django reads the settings before any conftest.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from tests.servers import start_valkey

_valkey = start_valkey()
_static_root = tempfile.mkdtemp(prefix="daypass-static-")
atexit.register(shutil.rmtree, _static_root, ignore_errors=True)
os.environ.update(
    DAYPASS_MODE="production",
    DAYPASS_ORIGIN="https://daypass.test",
    DAYPASS_SECRET_KEY="for tests only, and as long as it has to be in production",
    DAYPASS_SEALING_KEYS="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    DAYPASS_COMPANY="Example Corp",
    DAYPASS_STATIC_ROOT=_static_root,
    # So that what races in a test is not turned away for want of a thread (accounts/limits.py).
    DAYPASS_WEB_THREADS="32",
    REDIS_URL=_valkey.url,
)


class but:  # noqa: N801  (read as a word: settings, but DEBUG=True)
    """The settings with some of them changed, for code that is given them: nothing else in Django reacts."""

    def __init__(self, **changed: object) -> None:
        self._changed = changed

    def __getattr__(self, name: str) -> object:
        from django.conf import settings

        return self._changed[name] if name in self._changed else getattr(settings, name)

    def __dir__(self) -> list[str]:
        from django.conf import settings

        return [*dir(settings), *self._changed]
