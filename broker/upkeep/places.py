"""Where DAYPASS_PUBLISH_TO points: a directory that some web server serves, or an S3 bucket."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from broker.aws import s3
from broker.errors import BadInput, DaypassError

CONTENT_TYPE = "application/json"


class NotPublished(DaypassError):
    """The documents could not be written where AWS reads them."""

    code = "not_published"
    message = "The documents could not be published."
    retry = True


@dataclass(frozen=True, slots=True)
class Document:
    """One file of the issuer. seconds: for how long caches may keep it."""

    path: str
    body: bytes
    seconds: int

    @property
    def cache_control(self) -> str:
        return f"public, max-age={self.seconds}"


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path

    def put(self, document: Document) -> None:
        """Replace the file in one step: a reader sees the old one or the new one, never a part. Raises NotPublished.

        Files are readable by everybody, because a web server of another user serves them.
        """
        target = self.path / document.path
        partial = ""
        try:
            _readable_folder(target.parent)
            handle, partial = tempfile.mkstemp(prefix=".daypass-", dir=target.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(document.body)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o644)
            os.replace(partial, target)
        except OSError as error:
            if partial:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
            raise NotPublished(
                cause=f"{target} cannot be written: {error.strerror}.",
                remedy="Mount the directory into the worker, writable by the user that Daypass runs as.",
            ) from None


def _readable_folder(path: Path) -> None:
    """Make it where it is missing, open to everybody's reading whatever the process's umask. Raises OSError."""
    if path.is_dir():
        return
    _readable_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o755)


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    prefix: str
    region: str

    def put(self, document: Document) -> None:
        """Raises AwsError, AwsUnavailable."""
        s3.put(
            bucket=self.name,
            key=f"{self.prefix}{document.path}",
            body=document.body,
            content_type=CONTENT_TYPE,
            cache_control=document.cache_control,
            region=self.region,
        )


def place(target: str) -> Folder | Bucket:
    """Read file:///path or s3://bucket/prefix?region=eu-west-1. Raises BadInput that shows the form."""
    parts = urlsplit(target)
    if (
        parts.scheme == "file"
        and not parts.netloc
        and parts.path.startswith("/")
        and not parts.query
    ):
        return Folder(Path(unquote(parts.path)))
    region = _only(parse_qs(parts.query), "region")
    if parts.scheme == "s3" and parts.hostname and region and not parts.fragment:
        prefix = unquote(parts.path).strip("/")
        return Bucket(parts.netloc, f"{prefix}/" if prefix else "", region)
    raise BadInput(
        f"DAYPASS_PUBLISH_TO is {target!r}; it has to be file:///directory or s3://bucket/prefix?region=eu-west-1.",
        code="bad_publish_to",
    )


def _only(query: Mapping[str, list[str]], name: str) -> str:
    values = query.get(name, [])
    return values[0] if len(values) == 1 and set(query) == {name} else ""
