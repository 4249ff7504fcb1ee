"""`python -m tests.libraries`: what changed in the libraries since it was recorded; with --record: as it is now."""

from __future__ import annotations

import argparse
import os
import sys


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.libraries", description=__doc__)
    parser.add_argument("--record", action="store_true", help="after reading what changed")
    asked = parser.parse_args()
    import tests.environment  # noqa: F401  (settings as in every test)

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broker.settings")
    import django

    django.setup()
    from tests.libraries import record

    news = record.changes()
    print(news or "Nothing changed since it was recorded.")  # noqa: T201
    if asked.record:
        record.write()
        print(f"Recorded in {record.FILE}.")  # noqa: T201
        return 0
    return 1 if news else 0


if __name__ == "__main__":
    sys.exit(main())
