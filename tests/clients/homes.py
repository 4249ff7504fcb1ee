"""A person's computer as their AWS clients see it: a home folder, an environment, and nothing of the machine's."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.servers import Demo


@dataclass(frozen=True)
class Ran:
    """What a program said and how it ended."""

    code: int
    said: str

    def __str__(self) -> str:
        return f"ended with {self.code}:\n{self.said}"


class Running:
    """A program that waits for a person. Its words on both outputs come together, as on a terminal."""

    def __init__(self, words: list[str], *, output: Path, **more: Any) -> None:
        self._output = output
        with output.open("wb") as said:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **more,
            )

    @property
    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for(self, pattern: str, *, seconds: float = 60) -> str:
        """The first group of what it says, or all of the match."""
        until = time.monotonic() + seconds
        while True:
            ended = self._process.poll() is not None
            found = re.search(pattern, self.said)
            if found:
                return found.group(found.lastindex or 0)
            if ended or time.monotonic() > until:
                self.stop()
                raise AssertionError(f"it never said {pattern!r}, but:\n{self.said}")
            time.sleep(0.05)

    def type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())
        self._process.stdin.flush()

    def finish(self, *, seconds: float = 60) -> Ran:
        try:
            code = self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"it does not end; it said:\n{self.said}") from None
        self.stop()
        return Ran(code, self.said)

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


class Home:
    """root: of another Debian in which the programs run; none for this one. Inside, the home is at `inside`."""

    def __init__(self, folder: Path, demo: Demo, *, root: Path | None = None) -> None:
        self.folder, self.demo, self.root = folder, demo, root
        self.inside = Path("/root") if root else folder
        self._runs = 0
        (folder / ".aws").mkdir(parents=True)

    # --- its files

    @property
    def config(self) -> Path:
        return self.folder / ".aws" / "config"

    def tokens(self) -> list[Path]:
        """The files in which clients keep what they signed in with, without registrations."""
        found = (self.folder / ".aws" / "sso" / "cache").glob("*.json")
        return [path for path in found if "accessToken" in json.loads(path.read_text())]

    def token(self) -> dict[str, Any]:
        (path,) = self.tokens()
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept

    def keep_token(self, name: str, token: dict[str, Any]) -> None:
        """As the AWS CLI keeps it. name: what the file is called, before its ending."""
        cache = self.folder / ".aws" / "sso" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / f"{name}.json"
        path.write_text(json.dumps(token))
        path.chmod(0o600)

    def let_token_run_out(self) -> dict[str, Any]:
        """An hour passes for this computer. Answers what was there before."""
        (path,) = self.tokens()
        before: dict[str, Any] = json.loads(path.read_text())
        ago = datetime.now(UTC) - timedelta(minutes=5)
        path.write_text(json.dumps(before | {"expiresAt": ago.strftime("%Y-%m-%dT%H:%M:%SZ")}))
        self.forget_credentials()
        return before

    def forget_credentials(self) -> None:
        """What the AWS CLI keeps on disk would answer for fifteen minutes and more."""
        for path in (self.folder / ".aws" / "cli" / "cache").glob("*.json"):
            path.unlink()

    # --- its programs

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"] if self.root is None else "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.inside),
            "LANG": "C.UTF-8",
            "AWS_ENDPOINT_URL_STS": self.demo.stage.aws,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            **more,
        }

    def start(self, words: Iterable[str | Path], **more: str) -> Running:
        """Start a program. more: of its environment."""
        given = [str(word) for word in words]
        if self.root is not None:
            given = ["unshare", "--mount", "sh", "-c", self._enter(self.root), "sh", *given]
        self._runs += 1
        return Running(
            given,
            output=self.folder / f"said-{self._runs}.txt",
            env=self.environment(more),
            cwd=self.folder,
        )

    def run(self, words: Iterable[str | Path], *, seconds: float = 90, **more: str) -> Ran:
        return self.start(words, **more).finish(seconds=seconds)

    def _enter(self, root: Path) -> str:
        """The other Debian has this machine's loopback and devices, and this home."""
        here, there = shlex.quote(str(self.folder)), shlex.quote(str(root))
        return (
            f"mount --bind {here} {there}/root && mount -t proc proc {there}/proc && "
            f'mount --rbind /dev {there}/dev && exec /usr/sbin/chroot {there} "$@"'
        )
