"""How boto3 clients are made: what they may know, and what making one costs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from botocore.loaders import JSONFileLoader
from django.utils import timezone

from broker.aws.clients import bounds, lent
from broker.aws.credentials import Credentials

CONFIG = bounds(connect=1, read=1, tries=1)


def client(key: str, *, partition: str = "aws"):
    credentials = Credentials(key, "secret", "token", timezone.now() + timedelta(hours=1))
    return lent("iam", credentials, partition=partition, endpoint="", config=CONFIG)


def test_what_is_known_of_aws_is_read_once(monkeypatch):
    client("ASIA1")

    def read_again(_self, path: str) -> None:
        pytest.fail(f"{path} is read again")

    monkeypatch.setattr(JSONFileLoader, "load_file", read_again)
    assert client("ASIA2", partition="aws-cn").meta.region_name == "aws-cn-global"


def test_each_has_its_own_credentials_and_none_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOURS")
    monkeypatch.setenv("AWS_PROFILE", "one-that-is-not-there")
    broken = tmp_path / "config"
    broken.write_text("[this is no configuration")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(broken))

    clients = [client("ASIA1"), client("ASIA2")]

    keys = [one._request_signer._credentials.access_key for one in clients]
    assert keys == ["ASIA1", "ASIA2"]
