"""moto in a process of its own, with the two CloudFormation resources that it lacks: IAM's identity providers.

`python -m tests.trust.aws PORT` serves it. Both resources only call moto's own IAM, which keeps them as it keeps what
comes by its API.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.servers import Server, free_port, wait_for_port

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "123456789012"
"""The account that moto answers for when it is not told another."""


def start_aws() -> Server:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.trust.aws", str(port)],
        cwd=ROOT,
        env=os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(process.kill)
    wait_for_port(port, process, seconds=60)
    return Server(process, port, f"http://127.0.0.1:{port}")


def _teach_cloudformation() -> tuple[type, type]:
    from moto.core.common_models import CloudFormationModel
    from moto.iam.models import OpenIDConnectProvider, Role, SAMLProvider, iam_backends
    from moto.utilities.utils import get_partition

    # moto keeps a role's inline policy from a template as Python prints it; IAM answers JSON.
    keep = Role.put_policy
    Role.put_policy = lambda self, name, document: keep(
        self, name, document if isinstance(document, str) else json.dumps(document)
    )

    # moto asks for the module that a model is in, as "moto.iam.models".
    class Oidc(CloudFormationModel, OpenIDConnectProvider):
        __module__ = "moto.iam.models"
        physical_resource_id = property(lambda self: self.arn)
        cloudformation_name_type = staticmethod(lambda: "")
        cloudformation_type = staticmethod(lambda: "AWS::IAM::OIDCProvider")

        @classmethod
        def create_from_cloudformation_json(
            cls, resource_name, cloudformation_json, account_id, region_name, **kwargs
        ):
            asked = cloudformation_json["Properties"]
            backend = iam_backends[account_id][get_partition(region_name)]
            made = backend.create_open_id_connect_provider(
                url=asked["Url"],
                thumbprint_list=asked.get("ThumbprintList", []),
                client_id_list=asked["ClientIdList"],
                tags=[],
            )
            made.__class__ = cls
            return made

    class Saml(CloudFormationModel, SAMLProvider):
        __module__ = "moto.iam.models"
        physical_resource_id = property(lambda self: self.arn)
        cloudformation_name_type = staticmethod(lambda: "Name")
        cloudformation_type = staticmethod(lambda: "AWS::IAM::SAMLProvider")

        @classmethod
        def create_from_cloudformation_json(
            cls, resource_name, cloudformation_json, account_id, region_name, **kwargs
        ):
            asked = cloudformation_json["Properties"]
            backend = iam_backends[account_id][get_partition(region_name)]
            made = backend.create_saml_provider(asked["Name"], asked["SamlMetadataDocument"])
            made.__class__ = cls
            return made

    return Oidc, Saml


def serve(port: int) -> None:
    taught = _teach_cloudformation()
    from moto.server import ThreadedMotoServer

    ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False).start()
    threading.Event().wait()
    del taught  # moto itself remembers models only as long as somebody holds them


if __name__ == "__main__":
    serve(int(sys.argv[1]))
