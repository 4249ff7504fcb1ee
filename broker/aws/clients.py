"""How every boto3 client of Daypass is made: bounded in time, to the endpoint of a setting or of AWS.

`own`: with the credentials that this process runs with (boto3's default chain), shared by its threads. `lent`: with
credentials that were borrowed, for a few calls, and nothing of the process's own. STS makes its own, over `bounds`.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Literal

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from django.views.decorators.debug import sensitive_variables

from broker.arns import PARTITIONS
from broker.aws.bounded import bound
from broker.aws.credentials import Credentials

NOTHING_OF_OURS: dict[str, Any] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""For botocore's session: the process's profile and shared files are left unread; a broken one stops no call."""

_descriptions = botocore.loaders.create_loader()
"""What botocore knows of AWS. Each of its sessions would read the megabyte of endpoints anew."""

_own: dict[tuple[int, str, str, str], Any] = {}
_building = threading.Lock()


def bounds(*, connect: float, read: float, tries: int, **more: Any) -> Config:
    """botocore's settings that all clients have in common. connect, read: seconds of one try."""
    return Config(
        connect_timeout=connect,
        read_timeout=read,
        retries={"total_max_attempts": tries, "mode": "standard"},
        user_agent="Daypass",
        # A setting of ours is the one way to another endpoint; AWS_ENDPOINT_URL would pass its check by.
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # newer than its types
        **more,
    )


def session_with(answers: dict[str, Any]) -> botocore.session.Session:
    """A session of botocore for one client. answers: to what it would look up, as `NOTHING_OF_OURS`."""
    made = botocore.session.Session(session_vars=answers)
    made.register_component("data_loader", _descriptions)
    return made


def own(service: Literal["kms", "s3"], region: str, *, endpoint: str, config: Config) -> Any:
    """The client of this process. Building one takes 50 ms, and a forked child needs its own sockets."""
    key = (os.getpid(), service, region, endpoint)
    with _building:
        if key not in _own:
            session = boto3.session.Session(region_name=region)
            made = session.client(service, endpoint_url=endpoint or None, config=config)
            _own[key] = bound(made, seconds=_both(config))
        return _own[key]


def forget_own(service: str) -> None:
    """Build the clients of this service anew: one that was built without credentials would never find any."""
    with _building:
        for key in [key for key in _own if key[1] == service]:
            del _own[key]


@sensitive_variables()
def lent(
    service: Literal["iam", "organizations"],
    credentials: Credentials,
    *,
    partition: str,
    endpoint: str,
    config: Config,
) -> Any:
    """A client with these credentials alone, in the partition's home region. endpoint "": AWS's."""
    revealed = credentials.reveal()
    made = session_with(NOTHING_OF_OURS).create_client(
        service,
        region_name=PARTITIONS[partition].home_region,
        endpoint_url=endpoint or None,
        aws_access_key_id=revealed.access_key_id,
        aws_secret_access_key=revealed.secret_access_key,
        aws_session_token=revealed.session_token,
        config=config,
    )
    return bound(made, seconds=_both(config))


def _both(config: Any) -> float:
    """Seconds of a try as a whole: the two time-outs together."""
    seconds: float = config.connect_timeout + config.read_timeout
    return seconds
