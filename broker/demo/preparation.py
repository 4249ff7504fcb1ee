"""Before the first process starts: database, static files. Skipped when nothing has changed since the last time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from broker.demo.stage import HERE, ROOT, Stage


def prepare(stage: Stage, environment: Mapping[str, str]) -> None:
    """Migrate and collect static files, when the code has changed or the folder is new."""
    stamp = stage.folder / "prepared"
    sign = signature(ROOT / "accounts", ROOT / "broker", ROOT / "static", extra=())
    if read(stamp) == sign and (stage.folder / "daypass.sqlite3").exists():
        return
    subprocess.run(
        [sys.executable, "-m", "broker.demo.preparation"], env=dict(environment), check=True
    )
    stamp.write_text(sign, encoding="utf-8")


def signature(*folders: Path, extra: tuple[str, ...]) -> str:
    """A digest that changes when a file in one of the folders, the installed packages or the extra words change."""
    digest = hashlib.sha256()
    for folder in (*folders, ROOT / "requirements-demo.txt"):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file() and path.suffix != ".pyc":
                facts = path.stat()
                digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    for word in (*extra, sys.version, str(HERE)):
        digest.update(f"{word}\0".encode())
    return digest.hexdigest()


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _prepare() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)


if __name__ == "__main__":
    _prepare()
