"""AWS's STS and KMS as moto plays them, and a memory without opened keys."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, connections

from broker.minting.keys import forget_opened_keys

KMS_REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def _no_opened_keys_from_another_test():
    forget_opened_keys()


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """AWS as moto plays it over HTTP; its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def sts(moto) -> Any:
    """A client of moto's STS that holds no AWS credentials, as the broker's process holds none."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    return boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=moto,
        config=Config(signature_version=UNSIGNED),
    )


@pytest.fixture
def kms_admin(moto, settings, monkeypatch) -> Any:
    """KMS in the hands of whoever runs the AWS account; Daypass has credentials of its own beside it."""
    import boto3

    settings.DAYPASS_KMS_ENDPOINT = moto
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return boto3.client("kms", region_name=KMS_REGION, endpoint_url=moto)


def new_key(kms_admin: Any, spec: str = "RSA_2048", usage: str = "SIGN_VERIFY") -> str:
    """The ARN of a new key in KMS."""
    return kms_admin.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]


Together = Callable[..., list[BaseException]]


@pytest.fixture
def together(transactional_db, tmp_path) -> Iterator[Together]:
    """Do something in several threads at the same moment, each with a database connection of its own.

    SQLite's in-memory database of tests locks in its own way, so the threads share a file, as processes do.
    Answers what was raised.
    """
    path = str(tmp_path / "together.sqlite3")
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        with sqlite3.connect(path) as file:
            connection.connection.backup(file)
        file.close()

    def in_threads(work: Callable[[], Any], *, times: int = 1) -> list[BaseException]:
        barrier = threading.Barrier(times)
        problems: list[BaseException] = []

        def run() -> None:
            if connection.vendor == "sqlite":
                own = connection.copy()
                own.settings_dict["NAME"] = path
                connections["default"] = own
            try:
                barrier.wait(timeout=20)
                work()
            except BaseException as problem:
                problems.append(problem)
            finally:
                connections["default"].close()

        threads = [threading.Thread(target=run) for _ in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return problems

    yield in_threads
