"""A crash between any two steps: gunicorn is killed and Redis emptied, and unmodified botocore goes on regardless.

What clients hold for weeks (registrations), hours (tokens) or seconds (codes) lives in the database or in what they
hold themselves, and in no process and no cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.aws.servers import _sts_server, sts_stand_in  # noqa: F401  (fixtures)
from tests.awssso.abuse import DEVICE
from tests.awssso.site import ACCOUNT, REDIRECT, ROLE, Site


@pytest.fixture(scope="module")
def site(tmp_path_factory, _sts_server):  # noqa: F811
    made = Site(tmp_path_factory.mktemp("restarts"), sts=_sts_server.url, processes=1)
    yield made
    made.stop()


@dataclass
class Journey:
    """What a client and its person do, step by step; each step takes what the ones before it left."""

    site: Site
    handle: str = "ada"
    kept: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """botocore's own, new for each step as a new command would have it."""
        return boto3.session.Session().client(
            service,
            region_name="broker",
            endpoint_url=f"{self.site.origin}/aws",
            config=Config(signature_version=UNSIGNED, retries={"max_attempts": 1}),
        )

    @property
    def itself(self) -> dict[str, str]:
        return {name: self.kept[name] for name in ("clientId", "clientSecret")}

    def token(self, grant: str, **members: str) -> dict[str, Any]:
        with_it = {**self.itself, "grantType": grant, **members}
        answer: dict[str, Any] = self.client("sso-oidc").create_token(**with_it)
        self.kept |= {name: answer[name] for name in ("accessToken", "refreshToken")}
        return answer

    # --- The steps

    def register_for_device(self) -> None:
        self.kept |= self.client("sso-oidc").register_client(clientName="x", clientType="public")

    def start(self) -> None:
        self.kept |= self.client("sso-oidc").start_device_authorization(
            **self.itself, startUrl=f"{self.site.origin}/start"
        )

    def poll_early(self) -> None:
        with pytest.raises(ClientError) as told:
            self.token(DEVICE, deviceCode=self.kept["deviceCode"])
        assert told.value.response["Error"]["Code"] == "AuthorizationPendingException"

    def review(self) -> None:
        self.kept["ticket"] = self.site.browser(self.handle).review(self.kept["userCode"])

    def approve(self) -> None:
        assert self.site.browser(self.handle).approve(self.kept["ticket"]).status == 200

    def collect(self) -> None:
        self.token(DEVICE, deviceCode=self.kept["deviceCode"])

    def not_again(self) -> None:
        with pytest.raises(ClientError) as told:
            self.token(DEVICE, deviceCode=self.kept["deviceCode"])
        assert told.value.response["Error"]["Code"] == "InvalidGrantException"

    def register_for_browser(self) -> None:
        self.kept |= self.client("sso-oidc").register_client(
            clientName="x",
            clientType="public",
            scopes=["sso:account:access"],
            grantTypes=["authorization_code", "refresh_token"],
            redirectUris=["http://127.0.0.1/oauth/callback"],
            issuerUrl=f"{self.site.origin}/start",
        )

    def authorize(self) -> None:
        browser = self.site.browser(self.handle)
        self.kept["code"], self.kept["verifier"] = browser.authorize(self.kept["clientId"])

    def exchange(self) -> None:
        self.token(
            "authorization_code",
            code=self.kept["code"],
            codeVerifier=self.kept["verifier"],
            redirectUri=REDIRECT,
        )

    def accounts(self) -> None:
        told = self.client("sso").list_accounts(accessToken=self.kept["accessToken"])
        assert [one["accountId"] for one in told["accountList"]] == [ACCOUNT]

    def roles(self) -> None:
        told = self.client("sso").list_account_roles(
            accessToken=self.kept["accessToken"], accountId=ACCOUNT
        )
        names = sorted(one["roleName"] for one in told["roleList"])
        assert names == [ROLE, f"Only-{self.handle}"]

    def credentials(self) -> None:
        told = self.client("sso").get_role_credentials(
            accessToken=self.kept["accessToken"], accountId=ACCOUNT, roleName=ROLE
        )
        assert told["roleCredentials"]["accessKeyId"]

    def refresh(self) -> None:
        before = self.kept["refreshToken"]
        self.token("refresh_token", refreshToken=before)
        assert self.kept["refreshToken"] != before

    def logout(self) -> None:
        self.client("sso").logout(accessToken=self.kept["accessToken"])

    def signed_out(self) -> None:
        with pytest.raises(ClientError) as told:
            self.accounts()
        assert told.value.response["Error"]["Code"] == "UnauthorizedException"
        with pytest.raises(ClientError) as told:
            self.refresh()
        assert told.value.response["Error"]["Code"] == "InvalidGrantException"


USE = ("accounts", "roles", "credentials", "refresh", "credentials", "logout", "signed_out")
BY_DEVICE = (
    *("register_for_device", "start", "poll_early", "review", "approve", "collect", "not_again"),
    *USE,
)
IN_BROWSER = ("register_for_browser", "authorize", "exchange", *USE)
WHOLE = {"device": (BY_DEVICE, len(BY_DEVICE)), "browser": (IN_BROWSER, 4)}
"""The steps, and before which of them all processes die: in the browser only the first steps are different ones."""


@pytest.mark.parametrize("flow", WHOLE)
def test_a_crash_between_two_steps_is_not_noticed(site, flow):
    steps, crashes = WHOLE[flow]
    site.sign_in_when_old()
    journey = Journey(site)

    for n, step in enumerate(steps):
        if 0 < n < crashes:
            site.restart()
        work: Callable[[], None] = getattr(journey, step)
        work()
