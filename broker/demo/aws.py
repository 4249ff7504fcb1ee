"""AWS on this machine: moto answers for STS and IAM, the stand-in beside it for the sign-in service.

One process, because the stand-in looks up in moto's own books whether credentials are whole and still live.
"""

from __future__ import annotations

import argparse
import hmac
import json
import logging
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

import boto3
import requests
from botocore.exceptions import BotoCoreError, ClientError

from broker.demo.cast import ACCOUNTS, CastAccount, CastRole
from broker.demo.signin import Held, create_app
from broker.demo.stage import LOOPBACK

# Roles that are not in moto's IAM set no limit of their own.
_ANY = 43201

log = logging.getLogger("daypass.demo.aws")


def serve(*, aws_port: int, signin_port: int, broker: str) -> None:
    """Serve both until SIGTERM. Imports moto here: it takes a second that nothing else should wait for."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import make_server

    _keep_books_by_account()
    aws, own = f"http://{LOOPBACK}:{aws_port}", f"http://{LOOPBACK}:{signin_port}"
    moto = ThreadedMotoServer(ip_address=LOOPBACK, port=aws_port, verbose=False)
    moto.start()
    signin = make_server(
        LOOPBACK,
        signin_port,
        create_app(aws=aws, broker=broker, own=own, ledger=moto_ledger),
        threaded=True,
    )
    threading.Thread(target=_register, args=(aws, broker), daemon=True).start()

    def stop(*_: object) -> None:
        threading.Thread(target=signin.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signin.serve_forever()


def _keep_books_by_account() -> None:
    """Let moto know whose the keys are that it gave for an assertion.

    It writes such a session down in its default account, and looks for it in the role's.
    """
    from moto.sts.models import AssumedRole, STSBackend, sts_backends

    issue = STSBackend.assume_role_with_saml

    def issue_and_move(self: STSBackend, **asked: Any) -> AssumedRole:
        role = issue(self, **asked)
        self.assumed_roles.remove(role)
        sts_backends[role.account_id][role.partition].assumed_roles.append(role)
        return role

    STSBackend.assume_role_with_saml = issue_and_move  # type: ignore[method-assign]


def moto_ledger(key: str, secret: str, token: str) -> Held | None:
    """What moto issued under this key id, provided that secret and token are the ones that came with it."""
    from moto.iam.models import iam_backends
    from moto.sts.models import sts_backends

    for partitions in list(sts_backends.values()):
        for partition, backend in list(partitions.items()):
            issued = backend.get_assumed_role_from_access_key(key)
            if issued is None:
                continue
            whole = hmac.compare_digest(issued.secret_access_key, secret) and hmac.compare_digest(
                issued.session_token, token
            )
            expires_at = issued.expiration.replace(tzinfo=UTC)
            if not whole or expires_at <= datetime.now(UTC):
                return None
            roles = iam_backends[issued.role_arn.split(":")[4]][partition].roles.values()
            longest = next(
                (r.max_session_duration for r in roles if r.arn == issued.role_arn), _ANY
            )
            return Held(issued.arn, expires_at, int(longest or 3600))
    return None


def _register(aws: str, broker: str) -> None:
    """Put the demo's roles and its trust in Daypass into moto's IAM, account by account, as Terraform would."""
    metadata = _metadata(broker)
    for account in ACCOUNTS:
        try:
            _register_account(account, aws=aws, broker=broker, metadata=metadata)
        except (ClientError, BotoCoreError) as problem:
            log.warning("account %s could not be set up in moto: %s", account.name, problem)


def _metadata(broker: str) -> str:
    """Daypass's SAML metadata, once it answers; "" when it does not."""
    for _ in range(60):
        try:
            answer = requests.get(f"{broker}/aws/saml/metadata", timeout=5)
        except requests.RequestException:
            time.sleep(1)
            continue
        return answer.text if answer.ok else ""
    return ""


def _register_account(account: CastAccount, *, aws: str, broker: str, metadata: str) -> None:
    sts = boto3.client(
        "sts",
        region_name="us-east-1",
        endpoint_url=aws,
        aws_access_key_id="terraform",
        aws_secret_access_key="terraform",  # noqa: S106  (moto asks for none)
    )
    issued = sts.assume_role(
        RoleArn=f"arn:aws:iam::{account.account_id}:role/Terraform", RoleSessionName="stage"
    )["Credentials"]
    iam = boto3.client(
        "iam",
        region_name="us-east-1",
        endpoint_url=aws,
        aws_access_key_id=issued["AccessKeyId"],
        aws_secret_access_key=issued["SecretAccessKey"],
        aws_session_token=issued["SessionToken"],
    )
    iam.create_account_alias(AccountAlias=account.alias)
    iam.create_open_id_connect_provider(Url=broker, ClientIDList=["sts.amazonaws.com"])
    if metadata:
        iam.create_saml_provider(Name="Daypass", SAMLMetadataDocument=metadata)
    for role in account.roles:
        iam.create_role(
            RoleName=role.name,
            Path=role.path,
            Description=role.description,
            MaxSessionDuration=role.max_seconds,
            AssumeRolePolicyDocument=json.dumps(_trust(account, role, broker=broker)),
        )


def _trust(account: CastAccount, role: CastRole, *, broker: str) -> dict[str, object]:
    issuer = broker.partition("://")[2]
    if role.trust == "saml":
        principal = f"arn:aws:iam::{account.account_id}:saml-provider/Daypass"
        actions = ["sts:AssumeRoleWithSAML", "sts:TagSession", "sts:SetSourceIdentity"]
        condition = {"StringEquals": {"SAML:aud": "https://signin.aws.amazon.com/saml"}}
    else:
        principal = f"arn:aws:iam::{account.account_id}:oidc-provider/{issuer}"
        actions = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]
        condition = {"StringEquals": {f"{issuer}:aud": "sts.amazonaws.com"}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": principal},
                "Action": actions,
                "Condition": condition,
            }
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m broker.demo.aws", description=__doc__)
    parser.add_argument("--aws-port", type=int)
    parser.add_argument("--signin-port", type=int)
    parser.add_argument("--broker", help="Daypass's origin, for its SAML metadata")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    if options.aws_port:
        serve(
            aws_port=options.aws_port,
            signin_port=options.signin_port,
            broker=options.broker or "http://localhost",
        )
        return
    from broker.demo.stage import current_stage

    stage = current_stage()
    serve(aws_port=stage.aws_port, signin_port=stage.signin_port, broker=stage.origin)


if __name__ == "__main__":
    main()
