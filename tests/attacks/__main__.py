"""Play every attack and every positive control of both protocols, in one process, and write down how it went.

python -m tests.attacks [WORDS ...] [--reasons]   those whose name or class holds one of the words; default: all
python -m tests.attacks --record                  all of them, and the figures into docs/attacks.md
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import tests.environment  # noqa: F401 (sets the environment that the settings read)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")


@contextmanager
def database() -> Iterator[None]:
    """Django as tests have it: an empty database of its own, and pages without a manifest of static files."""
    import django

    django.setup()

    from django.conf import settings
    from django.test.utils import (
        override_settings,
        setup_databases,
        setup_test_environment,
        teardown_databases,
        teardown_test_environment,
    )

    setup_test_environment(debug=False)
    made = setup_databases(verbosity=0, interactive=False)
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    try:
        with override_settings(STORAGES={**settings.STORAGES, "staticfiles": plain}):
            yield
    finally:
        teardown_databases(made, verbosity=0)
        teardown_test_environment()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="*")
    parser.add_argument("--record", action="store_true", help="write docs/attacks.md")
    parser.add_argument("--reasons", action="store_true", help="say why each was refused")
    arguments = parser.parse_args()
    with database():
        from tests.attacks import record

        return record.run(words=arguments.words, reasons=arguments.reasons, write=arguments.record)


if __name__ == "__main__":
    sys.exit(main())
