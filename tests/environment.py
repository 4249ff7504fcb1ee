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
    REDIS_URL=_valkey.url,
)
