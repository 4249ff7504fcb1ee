"""moto that deploys, and the strict STS that signs people in with what moto's IAM then holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tests.admin.conftest import (  # noqa: F401  (fixtures)
    ada,
    admin_client,
    employee_client,
    grace,
    okta,
)
from tests.servers import Server
from tests.strict_sts import StrictRole, StrictSts
from tests.trust.aws import ACCOUNT, start_aws
from tests.ways.conftest import documents, published, strict

REGION = "us-east-1"

TERRAFORM = shutil.which("terraform") or ""
TERRAFORM_PROVIDERS = os.environ.get("TERRAFORM_PROVIDERS", "")
"""What `terraform providers mirror` wrote; only `terraform validate` needs it."""

collect_ignore = [] if TERRAFORM else ["test_terraform.py"]


def pytest_terminal_summary(terminalreporter) -> None:
    if not TERRAFORM:
        terminalreporter.line(
            "terraform is not installed, so it did not read our configurations; put it on the PATH."
        )
    elif not TERRAFORM_PROVIDERS:
        terminalreporter.line(
            "`terraform validate` was not run: let `terraform providers mirror DIRECTORY` fetch hashicorp/aws, and "
            "set TERRAFORM_PROVIDERS to it."
        )


@dataclass
class Deployment:
    """AWS on loopback as one account's administrator sees it."""

    url: str

    def client(self, service: str):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    @property
    def iam(self):
        return self.client("iam")

    def deploy(self, template: str, **parameters: str) -> None:
        """A CloudFormation stack; fails unless it is complete."""
        name = f"daypass-{uuid.uuid4().hex[:8]}"
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=template,
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
        )
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE", stack

    def run(self, script: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """A script of the AWS CLI, unmodified, as an administrator of this account runs it."""
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL": self.url,
            "LC_ALL": "C.UTF-8",
            **more,
        }
        return subprocess.run(
            ["sh", "-c", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def trust_of(self, name: str) -> dict:
        role = self.iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        return role if isinstance(role, dict) else json.loads(role)

    def into(self, sts: StrictSts) -> None:
        """Let the strict STS know what IAM holds: providers and roles with their trust policies, read back."""
        iam = self.iam
        for one in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]:
            held = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=one["Arn"])
            sts.oidc_providers[one["Arn"]] = held["ClientIDList"]
        for one in iam.list_saml_providers()["SAMLProviderList"]:
            held = iam.get_saml_provider(SAMLProviderArn=one["Arn"])
            sts.saml_providers[one["Arn"]] = held["SAMLMetadataDocument"]
        for one in iam.list_roles()["Roles"]:
            longest = iam.get_role(RoleName=one["RoleName"])["Role"]["MaxSessionDuration"]
            sts.roles[one["Arn"]] = StrictRole(self.trust_of(one["RoleName"]), max_seconds=longest)


@pytest.fixture(scope="session")
def _aws_server() -> Iterator[Server]:
    server = start_aws()
    yield server
    server.stop()


@pytest.fixture
def cloud(_aws_server) -> Deployment:
    """An empty account."""
    import requests

    assert requests.post(f"{_aws_server.url}/moto-api/reset", timeout=10).ok
    return Deployment(_aws_server.url)


__all__ = ["ACCOUNT", "cloud", "documents", "published", "strict"]
