"""An STS on loopback for tests that truly checks, and the few calls of IAM that go with it.

moto gives credentials to whoever asks. This one verifies what AWS verifies, with other people's libraries: tokens by
joserfc with the keys that the issuer publishes over HTTP, assertions by signxml with the uploaded metadata, signed
calls by botocore's own signer. It evaluates trust policies, and refuses in AWS's codes and words as far as they are
known. What AWS does not document (how long it keeps a key set, how it packs tags) is a knob or an estimate and says so.

    with StrictSts(issuer_urls={"https://daypass.test": documents.url}) as sts:
        sts.oidc_providers[oidc_provider_arn] = ["sts.amazonaws.com"]
        sts.roles[role_arn] = StrictRole(trust_policy={...})
        settings.DAYPASS_STS_ENDPOINT = sts.url

`sts.regional_url` has `{region}` in it, for code that asks more than one region.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
import secrets
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, quote, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener
from xml.sax.saxutils import escape

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from cryptography import x509
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from lxml import etree
from signxml import DigestAlgorithm, SignatureConfiguration, SignatureMethod, XMLVerifier
from signxml.exceptions import InvalidInput, InvalidSignature

TOLERANCE = 300
"""Seconds by which a token's times may be off (seen, not promised)."""
FETCH_SECONDS = 5.0
REDEEM_SECONDS = 300
"""An assertion is redeemed within five minutes of its issue."""
CHAINED_SECONDS = 3600
TAG_SPACE = 480
TAG_OVERHEAD = 12
POLICY_SPACE = 1500
"""How AWS packs is not documented. These bytes fit what has been seen: 9 tags of 250 characters about 498 %, the six
tags of an EKS pod about 74 %, the policy of AWS's own example 6 %."""

_ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_AWS = "https://aws.amazon.com/"
_SAML_ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"
_NS = {
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}
_SAML_AUDIENCES = {
    "aws": "urn:amazon:webservices",
    "aws-us-gov": "urn:amazon:webservices:govcloud",
    "aws-cn": "urn:amazon:webservices:cn-north-1",
    "aws-eusc": "https://eusc-de-east-1.signin.amazonaws-eusc.eu/saml",
}
_HOME = {
    "aws": "us-east-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-cn": "cn-north-1",
    "aws-eusc": "eusc-de-east-1",
}


@dataclass
class StrictRole:
    """A role. trust_policy: JSON or the document. permissions: actions its sessions may use (None: all)."""

    trust_policy: str | Mapping[str, Any]
    max_seconds: int = 3600
    permissions: Iterable[str] | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> Mapping[str, Any]:
        policy = self.trust_policy
        return json.loads(policy) if isinstance(policy, str) else policy


@dataclass
class Caller:
    """Whose credentials these are. arn: of the user or of the assumed-role session. role_arn: "" for a user."""

    arn: str
    secret: str
    token: str = ""
    role_arn: str = ""
    expires_at: datetime | None = None
    source_identity: str = ""
    transitive_tags: Mapping[str, str] = field(default_factory=dict)
    permissions: Iterable[str] | None = None
    federated: bool = False

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]

    @property
    def names(self) -> set[str]:
        """What a trust policy may call it."""
        partition = self.arn.split(":")[1]
        account = f"arn:{partition}:iam::{self.account}:root"
        return {"*", self.account, account, self.arn} | (
            {self.role_arn} if self.role_arn else set()
        )


@dataclass(frozen=True)
class Seen:
    """One call as it was answered. code: "" for success. session: what was given, if anything."""

    action: str
    region: str
    form: Mapping[str, str]
    code: str
    message: str
    status: int
    at: datetime


@dataclass(frozen=True)
class Given:
    """What an issued session is, beside its credentials."""

    arn: str
    seconds: int
    source_identity: str
    tags: Mapping[str, str]
    transitive_tag_keys: tuple[str, ...]
    packed_policy_size: int


class Refusal(Exception):
    """An answer that is no: AWS's code and words."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


@dataclass
class Outage:
    """What a region does instead of answering: wait, then (drop) close the connection, or answer with `status`."""

    status: int = 0
    code: str = ""
    hang: float = 0.0
    drop: bool = False


INTERNAL = Outage(500, "InternalFailure")
UNAVAILABLE = Outage(503, "ServiceUnavailable")
THROTTLED = Outage(400, "Throttling")
DROPPED = Outage(drop=True)


class _Server:
    """An HTTP server on loopback in threads of this process."""

    def __init__(self) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                owner.answer(self, body)

            do_GET = do_POST = _any  # noqa: N815  (the names that http.server looks for)

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.closing = threading.Event()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        raise NotImplementedError

    @staticmethod
    def send(
        handler: BaseHTTPRequestHandler, status: int, body: bytes, type_: str, **more: str
    ) -> None:
        handler.send_response_only(status)
        for name, value in (
            {"Content-Type": type_, "Content-Length": str(len(body))} | more
        ).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def stop(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()


class Published(_Server):
    """Where an issuer's documents stand: path -> bytes, or a function that makes them. `fetched` counts by path."""

    def __init__(self, documents: Mapping[str, bytes | Callable[[], bytes]] | None = None) -> None:
        self.documents: dict[str, bytes | Callable[[], bytes]] = dict(documents or {})
        self.fetched: dict[str, int] = {}
        self.slow = 0.0
        super().__init__()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = urlsplit(handler.path).path
        self.fetched[path] = self.fetched.get(path, 0) + 1
        if self.slow:
            self.closing.wait(self.slow)
        found = self.documents.get(path)
        if found is None:
            return self.send(handler, 404, b"", "text/plain")
        content = found() if callable(found) else found
        return self.send(handler, 200, content, "application/json")

    def publish_daypass(self, client: Any, *, below: str = "") -> None:
        """Put Daypass's two documents here as they are served now, as a company does that publishes them elsewhere.

        below: the issuer's path, if it has one; here they stand at the root.
        """
        for name in ("openid-configuration", "jwks.json"):
            served = client.get(f"{below}/.well-known/{name}")
            assert served.status_code == 200, served
            self.documents[f"/.well-known/{name}"] = served.content


class StrictSts(_Server):
    """See the module. Everything that is set may be changed while it runs.

    issuer_urls: where the internet's addresses are on this machine: "https://host/path" -> the loopback URL that stands
    in its place; the longest that fits counts. jwks_cache_seconds: how long a key set is believed.
    refetch_on_unknown_kid: whether a token signed with a key that is not in the cached set has it fetched anew.
    clock: what AWS's clock says, in UTC. clock_skew: by how much it is ahead besides. knows_roles_claim: False for an
    AWS of before July 2026.
    """

    def __init__(
        self,
        *,
        issuer_urls: Mapping[str, str] | None = None,
        jwks_cache_seconds: float = 0.0,
        refetch_on_unknown_kid: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.issuer_urls: dict[str, str] = dict(issuer_urls or {})
        self.jwks_cache_seconds = jwks_cache_seconds
        self.refetch_on_unknown_kid = refetch_on_unknown_kid
        self.clock = clock
        self.clock_skew = timedelta(0)
        self.roles: dict[str, StrictRole] = {}
        self.oidc_providers: dict[str, list[str]] = {}
        self.saml_providers: dict[str, str | bytes] = {}
        self.callers: dict[str, Caller] = {}
        self.outages: dict[str, Outage] = {}
        self.knows_roles_claim = True
        self.disabled_regions: set[str] = set()
        self.denied_by_scp: set[str] = set()
        self.requests: list[Seen] = []
        self.mistakes: list[Exception] = []
        self.given: dict[str, Given] = {}
        self._key_sets: dict[str, tuple[datetime, list[Mapping[str, Any]]]] = {}
        self._lock = threading.Lock()
        super().__init__()
        self.regional_url = self.url + "/{region}"

    # --- Set up

    def now(self) -> datetime:
        return self.clock() + self.clock_skew

    def add_user(self, arn: str, *, permissions: Iterable[str] | None = None) -> tuple[str, str]:
        """Long-term keys of an IAM user: (access key id, secret)."""
        key_id, secret = f"AKIA{_letters(16)}", secrets.token_urlsafe(30)
        self.callers[key_id] = Caller(arn, secret, permissions=permissions)
        return key_id, secret

    def lend(
        self, role_arn: str, *, name: str = "instance", permissions: Iterable[str] | None = None
    ) -> tuple[str, str, str]:
        """Credentials of a role as a machine or task has them: (access key id, secret, session token)."""
        role = self.roles.get(role_arn)
        session = _session_arn(role_arn, name)
        caller = Caller(
            session,
            secrets.token_urlsafe(30),
            secrets.token_urlsafe(60),
            role_arn,
            self.now() + timedelta(hours=6),
            permissions=permissions if permissions is not None else role and role.permissions,
        )
        key_id = f"ASIA{_letters(16)}"
        self.callers[key_id] = caller
        return key_id, caller.secret, caller.token

    def refused(self) -> list[str]:
        """The codes of all refusals, in order."""
        return [seen.code for seen in self.requests if seen.code]

    def forget_key_sets(self) -> None:
        """As when AWS's cache of an issuer's keys has run out."""
        self._key_sets.clear()

    def stop(self) -> None:
        """Raises the first mistake of its own, so that none passes for an answer of AWS."""
        super().stop()
        if self.mistakes:
            raise self.mistakes[0]

    # --- HTTP

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        region = urlsplit(handler.path).path.strip("/") or "us-east-1"
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        action = form.get("Action", "")
        outage = self.outages.get(region) or self.outages.get("*")
        code = message = ""
        status = 200
        if outage is not None:
            self.closing.wait(outage.hang)
            if outage.drop:
                self._saw(action, region, form, "Dropped", "", 0)
                handler.close_connection = True
                return
        try:
            if outage is not None and outage.status:
                raise Refusal(
                    outage.code, "Rate exceeded" if outage is THROTTLED else "", outage.status
                )
            answer = self._perform(action, form, region, handler, body)
        except Exception as error:
            if isinstance(error, Refusal):
                refusal = error
            else:  # a mistake in here, or a policy that it cannot read
                self.mistakes.append(error)
                refusal = Refusal("InternalFailure", repr(error), 500)
            code, message, status = refusal.code, refusal.message, refusal.status
            answer = (
                f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
                f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
                f"<RequestId>{secrets.token_hex(8)}</RequestId></ErrorResponse>"
            )
        self._saw(action, region, form, code, message, status)
        date = format_datetime(self.now().replace(microsecond=0), usegmt=True)
        self.send(handler, status, answer.encode(), "text/xml", date=date)

    def _saw(
        self,
        action: str,
        region: str,
        form: Mapping[str, str],
        code: str,
        message: str,
        status: int,
    ) -> None:
        self.requests.append(Seen(action, region, form, code, message, status, self.now()))

    def _perform(
        self,
        action: str,
        form: Mapping[str, str],
        region: str,
        handler: BaseHTTPRequestHandler,
        body: bytes,
    ) -> str:
        if form.get("Version") == "2010-05-08":
            return self._iam(action, form, self._caller(handler, body))
        if region in self.disabled_regions:
            raise Refusal(
                "RegionDisabledException",
                f"STS is not activated in this region for account:{_account_in(form)}. Your account administrator can "
                "activate STS in this region using the IAM Console.",
                403,
            )
        match action:
            case "AssumeRoleWithWebIdentity":
                result = self._web_identity(form, region)
            case "AssumeRoleWithSAML":
                result = self._saml(form, region)
            case "AssumeRole":
                result = self._assume_role(form, region, self._caller(handler, body))
            case "GetFederationToken":
                result = self._federation_token(form, self._caller(handler, body))
            case "GetCallerIdentity":
                caller = self._caller(handler, body)
                result = _xml(
                    {"Arn": caller.arn, "UserId": "AIDAEXAMPLE", "Account": caller.account}
                )
            case _:
                raise Refusal("InvalidAction", f"Could not find operation {action}")
        return _envelope(action, result, "https://sts.amazonaws.com/doc/2011-06-15/")

    # --- AssumeRoleWithWebIdentity

    def _web_identity(self, form: Mapping[str, str], region: str) -> str:
        role_arn = _role_arn(form)
        name = _session_name(form.get("RoleSessionName", ""))
        seconds = _asked_seconds(form)
        token = form.get("WebIdentityToken", "")
        if not 4 <= len(token) <= 20000:
            raise _invalid_length("webIdentityToken", 4, 20000)
        header, claims = _peek(token)
        provider_arn, prefix = self._oidc_provider(role_arn, str(claims.get("iss", "")))
        self._verify(token, header, str(claims["iss"]))
        self._check_times(claims)
        audience = self._check_audience(claims, self.oidc_providers[provider_arn])
        subject = claims.get("sub")
        if not subject:
            raise Refusal("InvalidIdentityToken", "Missing a required claim: sub")
        authorised = _check_roles_claim(claims, role_arn) if self.knows_roles_claim else None
        tags, transitive = _tags_of_token(claims)
        source_identity = str(claims.get(f"{_AWS}source_identity", ""))
        _check_source_identity(source_identity)
        amr = claims.get("amr", [])
        context: dict[str, Any] = {
            f"{prefix}:aud": audience,
            f"{prefix}:oaud": claims["aud"],
            f"{prefix}:sub": str(subject),
            f"{prefix}:amr": [amr] if isinstance(amr, str) else list(amr),
            "aws:FederatedProvider": provider_arn,
            **({"sts:RoleAuthorizedByIdp": authorised} if authorised else {}),
        }
        role = self._let_in(
            "sts:AssumeRoleWithWebIdentity",
            role_arn,
            {provider_arn},
            "Federated",
            context,
            name=name,
            tags=tags,
            transitive=transitive,
            source_identity=source_identity,
            region=region,
        )
        _check_seconds(seconds, role)
        more = {
            "SubjectFromWebIdentityToken": str(subject),
            "Audience": audience,
            "Provider": provider_arn,
        }
        return self._issue(
            role_arn, role, name, seconds, form, tags, transitive, source_identity, more
        )

    def _oidc_provider(self, role_arn: str, issuer: str) -> tuple[str, str]:
        _, partition, _, _, account, _ = role_arn.split(":", 5)
        prefix = issuer.removeprefix("https://")
        arn = f"arn:{partition}:iam::{account}:oidc-provider/{prefix}"
        if not issuer.startswith("https://") or arn not in self.oidc_providers:
            raise Refusal(
                "InvalidIdentityToken",
                f"No OpenIDConnect provider found in your account for {issuer}",
            )
        return arn, prefix

    def _verify(self, token: str, header: Mapping[str, Any], issuer: str) -> None:
        algorithm = header.get("alg")
        if algorithm not in _ALGORITHMS:
            raise Refusal(
                "InvalidIdentityToken",
                "The ID Token provided is not a valid JWT. (You may see this error if "
                "you sent an Access Token)",
            )
        key = self._key(header, self._key_set(issuer))
        if key is None and self.refetch_on_unknown_kid:
            self._key_sets.pop(issuer, None)
            key = self._key(header, self._key_set(issuer))
        if key is None:
            raise Refusal(
                "InvalidIdentityToken",
                "Couldn't retrieve verification key from your identity provider, "
                "please reference AssumeRoleWithWebIdentity documentation for requirements",
            )
        try:
            imported = (RSAKey if key["kty"] == "RSA" else ECKey).import_key(dict(key))
            jws.deserialize_compact(token, imported, algorithms=[algorithm])
        except (JoseError, ValueError):
            raise Refusal(
                "InvalidIdentityToken", "The provided token's signature is invalid"
            ) from None

    @staticmethod
    def _key(header: Mapping[str, Any], keys: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        usable = [
            key
            for key in keys
            if key.get("kid")
            and key.get("use", "sig") == "sig"
            and "key_ops" not in key
            and key.get("kty") == {"R": "RSA", "E": "EC"}[header["alg"][0]]
        ]
        if len(usable) > 100:
            return None
        if "kid" not in header:
            return usable[0] if len(usable) == 1 else None
        return next((key for key in usable if key["kid"] == header["kid"]), None)

    def _key_set(self, issuer: str) -> list[Mapping[str, Any]]:
        with self._lock:
            kept = self._key_sets.get(issuer)
            if kept and (self.now() - kept[0]).total_seconds() < self.jwks_cache_seconds:
                return kept[1]
            discovery = self._fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if discovery.get("issuer") != issuer:
                raise Refusal(
                    "InvalidIdentityToken",
                    "Issuer in the discovery document does not match the issuer of "
                    "the identity token",
                )
            keys = self._fetch(str(discovery.get("jwks_uri", ""))).get("keys", [])
            self._key_sets[issuer] = (self.now(), keys)
            return keys

    def _fetch(self, url: str) -> dict[str, Any]:
        """One of the issuer's documents, over HTTP, within AWS's five seconds, without a redirect."""
        place = max((p for p in self.issuer_urls if _below(url, p)), key=len, default=None)
        unreachable = Refusal(
            "InvalidIdentityToken",
            "Couldn't retrieve verification key from your identity provider, please reference "
            "AssumeRoleWithWebIdentity documentation for requirements",
        )
        if place is None:
            raise unreachable
        request = Request(
            self.issuer_urls[place].rstrip("/") + url.removeprefix(place.rstrip("/")),
            headers={"Host": urlsplit(url).netloc, "User-Agent": "AWS"},
        )
        try:
            with _opener.open(request, timeout=FETCH_SECONDS) as answer:
                found = json.loads(answer.read(1_000_000))
        except HTTPError as error:
            error.close()
            raise unreachable from None
        except (OSError, ValueError):
            raise unreachable from None
        if not isinstance(found, dict):
            raise unreachable
        return found

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = int(self.now().timestamp())
        for name in ("iat", "exp"):
            if name not in claims:
                raise Refusal("InvalidIdentityToken", f"Missing a required claim: {name}")
        try:
            issued, ends = _whole(claims["iat"]), _whole(claims["exp"])
            begins = _whole(claims.get("nbf", 0))
        except ValueError:
            raise Refusal(
                "InvalidIdentityToken", "The ID Token provided is not a valid JWT."
            ) from None
        if ends + TOLERANCE <= now:
            raise Refusal(
                "ExpiredTokenException",
                f"Token expired: current date/time {now} must be before the expiration date/time {ends}",
            )
        if max(issued, begins) - TOLERANCE > now:
            raise Refusal("InvalidIdentityToken", "Token is not yet valid")

    @staticmethod
    def _check_audience(claims: Mapping[str, Any], client_ids: Iterable[str]) -> str:
        audience = claims.get("aud")
        if not audience:
            raise Refusal("InvalidIdentityToken", "Missing a required claim: aud")
        named = [audience] if isinstance(audience, str) else list(audience)
        if "azp" in claims:
            named = [str(claims["azp"])]
        if len(named) != 1 or named[0] not in set(client_ids):
            raise Refusal("InvalidIdentityToken", "Incorrect token audience")
        return str(named[0])

    # --- AssumeRoleWithSAML

    def _saml(self, form: Mapping[str, str], region: str) -> str:
        role_arn = _role_arn(form)
        provider_arn = form.get("PrincipalArn", "")
        seconds = _asked_seconds(form)
        text = form.get("SAMLAssertion", "")
        if not 4 <= len(text) <= 100_000:
            raise _invalid_length("sAMLAssertion", 4, 100000)
        if provider_arn.split(":")[4:5] != role_arn.split(":")[4:5]:
            raise Refusal("ValidationError", "Request ARN is invalid")
        if provider_arn not in self.saml_providers:
            raise Refusal("InvalidIdentityToken", "Specified provider doesn't exist")
        assertion = self._verified_assertion(text, self.saml_providers[provider_arn])
        said = self._check_assertion(assertion, role_arn.split(":")[1])
        attributes = _attributes(assertion)
        pairs = attributes.get("Role", [])
        if not any(set(pair.split(",")) == {role_arn, provider_arn} for pair in pairs):
            raise Refusal("AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML", 403)
        name = _only(attributes, "RoleSessionName")
        if not name:
            raise Refusal("InvalidIdentityToken", "RoleSessionName is required in AuthnResponse")
        if not _NAME.fullmatch(name):
            raise Refusal(
                "InvalidIdentityToken",
                "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}",
            )
        source_identity = _only(attributes, "SourceIdentity")
        _check_source_identity(source_identity)
        tags = {
            key.partition(":")[2]: _only(attributes, key)
            for key in attributes
            if key.startswith("PrincipalTag:")
        }
        transitive = tuple(attributes.get("TransitiveTagKeys", ()))
        _check_tags(tags, transitive)
        context = {
            "SAML:aud": said["recipient"],
            "SAML:iss": said["issuer"],
            "SAML:sub": said["subject"],
            "SAML:sub_type": said["format"],
            "SAML:doc": "/".join((role_arn.split(":")[4], provider_arn.rsplit("/", 1)[-1])),
            "SAML:namequalifier": _name_qualifier(said["issuer"], provider_arn),
        }
        role = self._let_in(
            "sts:AssumeRoleWithSAML",
            role_arn,
            {provider_arn},
            "Federated",
            context,
            name=name,
            tags=tags,
            transitive=transitive,
            source_identity=source_identity,
            region=region,
        )
        _check_seconds(seconds, role)
        if "SessionDuration" in attributes:
            try:
                seconds = min(seconds, int(_only(attributes, "SessionDuration")))
            except ValueError:
                raise Refusal("InvalidIdentityToken", "SessionDuration must be a number") from None
        if said["session_ends"]:
            left = int((_instant(said["session_ends"]) - self.now()).total_seconds())
            seconds = min(seconds, left)
        more = {
            "Subject": said["subject"],
            "SubjectType": said["format"],
            "Issuer": said["issuer"],
            "Audience": said["recipient"],
            "NameQualifier": context["SAML:namequalifier"],
        }
        return self._issue(
            role_arn, role, name, seconds, form, tags, transitive, source_identity, more
        )

    @staticmethod
    def _verified_assertion(text: str, metadata: str | bytes) -> etree._Element:
        """The assertion as it was signed, by a key of the metadata; nothing outside what is signed is looked at."""
        invalid = Refusal("InvalidIdentityToken", "Invalid base64 SAMLResponse")
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        try:
            response = etree.fromstring(base64.b64decode(text, validate=True), parser)
        except (ValueError, etree.XMLSyntaxError):
            raise invalid from None
        status = response.find("samlp:Status/samlp:StatusCode", _NS)
        if status is None or not str(status.get("Value")).endswith(":status:Success"):
            raise Refusal(
                "IDPRejectedClaim",
                "The identity provider (IdP) reported that authentication failed.",
                403,
            )
        found = response.findall("saml:Assertion", _NS)
        if len(found) != 1:
            raise Refusal("InvalidIdentityToken", "Response must contain exactly one assertion")
        document = etree.fromstring(
            metadata.encode() if isinstance(metadata, str) else metadata, parser
        )
        if found[0].findtext("saml:Issuer", namespaces=_NS) != document.get("entityID"):
            raise Refusal(
                "AuthSamlInvalidSamlResponseException", "Issuer not present in specified provider"
            )
        alone = etree.tostring(found[0])
        for certificate in document.iterfind(".//ds:X509Certificate", _NS):
            der = base64.b64decode("".join(certificate.itertext()))
            certified = x509.load_der_x509_certificate(der)
            try:
                result = XMLVerifier().verify(
                    alone,
                    x509_cert=certified,
                    expect_config=SignatureConfiguration(
                        location="./",
                        # AWS does not look at a certificate's dates.
                        verification_time=certified.not_valid_before_utc,
                        expect_references=1,
                        signature_methods=frozenset({SignatureMethod.RSA_SHA256}),
                        digest_algorithms=frozenset({DigestAlgorithm.SHA256}),
                    ),
                )
            except (InvalidSignature, InvalidInput):
                continue
            signed = result.signed_xml
            if signed is not None and etree.QName(signed).localname == "Assertion":
                return signed
        raise Refusal("InvalidIdentityToken", "Response signature invalid")

    def _check_assertion(self, assertion: etree._Element, partition: str) -> dict[str, str]:
        now = self.now()
        name_id = assertion.find("saml:Subject/saml:NameID", _NS)
        if name_id is None or not name_id.text:
            raise Refusal("AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML", 403)
        confirmations = assertion.findall(
            "saml:Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData", _NS
        )
        if len(confirmations) != 1 or not {"NotOnOrAfter", "Recipient"} <= set(
            confirmations[0].keys()
        ):
            raise Refusal(
                "InvalidIdentityToken",
                "Responses must contain SubjectConfirmatonData with a Recipient and NotOnOrAfter",
            )
        recipient = str(confirmations[0].get("Recipient"))
        audiences = [one.text for one in assertion.iterfind("saml:Conditions//saml:Audience", _NS)]
        if not {_SAML_AUDIENCES[partition], recipient} & set(audiences):
            raise Refusal(
                "InvalidIdentityToken", "Response does not contain the required audience."
            )
        conditions = assertion.find("saml:Conditions", _NS)
        if _instant(assertion.get("IssueInstant")) + timedelta(seconds=REDEEM_SECONDS) <= now:
            raise Refusal(
                "ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance"
            )
        for ends in (confirmations[0].get("NotOnOrAfter"), conditions.get("NotOnOrAfter")):
            if ends and _instant(ends) <= now:
                raise Refusal(
                    "ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance"
                )
        if conditions.get("NotBefore") and _instant(conditions.get("NotBefore")) > now:
            raise Refusal("InvalidIdentityToken", "Assertion is not yet valid")
        statement = assertion.find("saml:AuthnStatement", _NS)
        short = "urn:oasis:names:tc:SAML:2.0:nameid-format:"
        return {
            "subject": name_id.text,
            "format": str(name_id.get("Format", "")).removeprefix(short),
            "issuer": str(assertion.findtext("saml:Issuer", namespaces=_NS)),
            "recipient": recipient,
            "session_ends": statement.get("SessionNotOnOrAfter", "")
            if statement is not None
            else "",
        }

    # --- AssumeRole and GetFederationToken: signed

    def _caller(self, handler: BaseHTTPRequestHandler, body: bytes) -> Caller:
        """Who signed the request; botocore's own signer computes what the signature has to be."""
        said = handler.headers.get("Authorization", "")
        match = re.match(
            r"AWS4-HMAC-SHA256 Credential=(?P<id>\w+)/\d{8}/(?P<region>[\w-]+)/(?P<service>\w+)/aws4_request, "
            r"SignedHeaders=(?P<headers>[\w;-]+), Signature=(?P<signature>[0-9a-f]{64})",
            said,
        )
        if match is None:
            raise Refusal(
                "MissingAuthenticationToken", "Request is missing Authentication Token", 403
            )
        caller = self.callers.get(match["id"])
        if caller is None or handler.headers.get("X-Amz-Security-Token", "") != caller.token:
            raise Refusal(
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
                403,
            )
        if caller.expires_at is not None and caller.expires_at <= self.now():
            raise Refusal(
                "ExpiredToken", "The security token included in the request is expired", 403
            )
        stamp = handler.headers.get("X-Amz-Date", "")
        sent = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs((sent - self.now()).total_seconds()) > 900:
            raise Refusal(
                "SignatureDoesNotMatch",
                f"Signature expired: {stamp} is now earlier than {self.now():%Y%m%dT%H%M%SZ}",
                403,
            )
        request = AWSRequest(
            method=handler.command,
            url=f"http://{handler.headers['Host']}{handler.path}",
            data=body,
            headers={name: handler.headers[name] for name in match["headers"].split(";")},
        )
        request.context["timestamp"] = stamp
        signer = SigV4Auth(
            BotoCredentials(match["id"], caller.secret, caller.token or None),
            match["service"],
            match["region"],
        )
        expected = signer.signature(
            signer.string_to_sign(request, signer.canonical_request(request)), request
        )
        if not secrets.compare_digest(expected, match["signature"]):
            raise Refusal(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature "
                "you provided. Check your AWS Secret Access Key and signing method.",
                403,
            )
        return caller

    def _assume_role(self, form: Mapping[str, str], region: str, caller: Caller) -> str:
        role_arn = _role_arn(form)
        name = _session_name(form.get("RoleSessionName", ""))
        seconds = _asked_seconds(form)
        given = {item["Key"]: item.get("Value", "") for item in _members(form, "Tags")}
        transitive = tuple(_list(form, "TransitiveTagKeys"))
        _check_tags(given, transitive)
        if {key.lower() for key in given} & {key.lower() for key in caller.transitive_tags}:
            raise Refusal(
                "ValidationError",
                "One of the specified transitive tag keys can't be set because it "
                "conflicts with a transitive tag key from the calling session.",
            )
        tags = given | dict(caller.transitive_tags)
        source_identity = form.get("SourceIdentity", "")
        _check_source_identity(source_identity)
        wanted = self._wanted("sts:AssumeRole", given, source_identity)
        denied = self._not_authorised(caller, wanted[0], role_arn)
        if caller.source_identity and source_identity not in ("", caller.source_identity):
            raise denied
        own_account = caller.account == role_arn.split(":")[4]
        for action in wanted:
            allowed = caller.permissions is None or _any_like(action, caller.permissions)
            if not allowed and not own_account:
                raise self._not_authorised(caller, action, role_arn)
        context = {"sts:ExternalId": form["ExternalId"]} if "ExternalId" in form else {}
        role = self._let_in(
            "sts:AssumeRole",
            role_arn,
            caller.names,
            "AWS",
            context,
            name=name,
            tags=given,
            transitive=transitive,
            source_identity=source_identity,
            region=region,
            caller=caller,
        )
        if caller.role_arn and seconds > CHAINED_SECONDS:
            raise Refusal(
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles "
                "assumed by role chaining.",
            )
        _check_seconds(seconds, role)
        keys = (*transitive, *caller.transitive_tags)
        identity = source_identity or caller.source_identity
        return self._issue(role_arn, role, name, seconds, form, tags, keys, identity, {})

    def _federation_token(self, form: Mapping[str, str], caller: Caller) -> str:
        if caller.token:
            raise Refusal(
                "AccessDenied", "Cannot call GetFederationToken with session credentials", 403
            )
        name = form.get("Name", "")
        if not 2 <= len(name) <= 32 or not re.fullmatch(r"[\w+=,.@-]+", name, re.ASCII):
            raise Refusal(
                "ValidationError",
                f"1 validation error detected: Value '{name}' at 'name' failed to satisfy "
                "constraint: Member must have length less than or equal to 32",
            )
        seconds = int(form.get("DurationSeconds", 43200))
        if not 900 <= seconds <= 129600:
            raise _invalid_length("durationSeconds", 900, 129600)
        if caller.permissions is not None and not _any_like(
            "sts:GetFederationToken", caller.permissions
        ):
            raise self._not_authorised(caller, "sts:GetFederationToken", f"federated-user/{name}")
        tags = {item["Key"]: item.get("Value", "") for item in _members(form, "Tags")}
        _check_tags(tags, ())
        packed = _packed(form, tags)
        partition = caller.arn.split(":")[1]
        arn = f"arn:{partition}:sts::{caller.account}:federated-user/{name}"
        session = Caller(
            arn,
            secrets.token_urlsafe(30),
            secrets.token_urlsafe(120),
            "",
            self.now() + timedelta(seconds=seconds),
            permissions=("sts:GetCallerIdentity",),
            federated=True,
        )
        credentials = self._keep(session, Given(arn, seconds, "", tags, (), packed))
        user = {"FederatedUserId": f"{caller.account}:{name}", "Arn": arn}
        return _xml(
            {"Credentials": credentials, "FederatedUser": user, "PackedPolicySize": str(packed)}
        )

    # --- Trust

    @staticmethod
    def _wanted(action: str, tags: Mapping[str, str], source_identity: str) -> list[str]:
        return [
            action,
            *(["sts:TagSession"] if tags else []),
            *(["sts:SetSourceIdentity"] if source_identity else []),
        ]

    def _let_in(
        self,
        action: str,
        role_arn: str,
        principals: set[str],
        kind: str,
        context: Mapping[str, Any],
        *,
        name: str,
        tags: Mapping[str, str],
        transitive: tuple[str, ...],
        source_identity: str,
        region: str,
        caller: Caller | None = None,
    ) -> StrictRole:
        """The role, if its trust policy allows every action that the request needs."""

        def denied(what: str, why: str = "") -> Refusal:
            if caller is not None:
                return self._not_authorised(caller, what, role_arn, why)
            return Refusal("AccessDenied", f"Not authorized to perform {what}{why}", 403)

        if self.denied_by_scp & {role_arn, role_arn.split(":")[4]}:
            raise denied(action, " with an explicit deny in a service control policy")
        role = self.roles.get(role_arn)
        if role is None:
            raise denied(action)
        full: dict[str, Any] = {
            **context,
            "sts:RoleSessionName": name,
            "aws:RequestedRegion": region,
            **({"sts:SourceIdentity": source_identity} if source_identity else {}),
            **({"aws:TagKeys": list(tags)} if tags else {}),
            **({"sts:TransitiveTagKeys": list(transitive)} if transitive else {}),
            **{f"aws:RequestTag/{key}": value for key, value in tags.items()},
        }
        for one in self._wanted(action, tags, source_identity):
            if not allows(role.document, one, principals, kind, full):
                raise denied(one)
        return role

    @staticmethod
    def _not_authorised(caller: Caller, action: str, resource: str, why: str = "") -> Refusal:
        message = f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource}{why}"
        return Refusal("AccessDenied", message, 403)

    # --- Credentials

    def _issue(
        self,
        role_arn: str,
        role: StrictRole,
        name: str,
        seconds: int,
        form: Mapping[str, str],
        tags: Mapping[str, str],
        transitive: tuple[str, ...],
        source_identity: str,
        more: Mapping[str, str],
    ) -> str:
        packed = _packed(form, tags)
        arn = _session_arn(role_arn, name)
        session = Caller(
            arn,
            secrets.token_urlsafe(30),
            secrets.token_urlsafe(300),
            role_arn,
            self.now() + timedelta(seconds=seconds),
            source_identity,
            {key: tags[key] for key in tags if key in transitive},
            role.permissions,
        )
        credentials = self._keep(
            session, Given(arn, seconds, source_identity, dict(tags), transitive, packed)
        )
        user = {"AssumedRoleId": f"AROA{_letters(17)}:{name}", "Arn": arn}
        answer: dict[str, Any] = {"Credentials": credentials, "AssumedRoleUser": user}
        if packed:
            answer["PackedPolicySize"] = str(packed)
        if source_identity:
            answer["SourceIdentity"] = source_identity
        return _xml(answer | dict(more))

    def _keep(self, session: Caller, given: Given) -> dict[str, str]:
        key_id = f"ASIA{_letters(16)}"
        self.callers[key_id] = session
        self.given[key_id] = given
        assert session.expires_at is not None
        return {
            "AccessKeyId": key_id,
            "SecretAccessKey": session.secret,
            "SessionToken": session.token,
            "Expiration": session.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    # --- IAM

    def _iam(self, action: str, form: Mapping[str, str], caller: Caller) -> str:
        if caller.permissions is not None and not _any_like(f"iam:{action}", caller.permissions):
            raise self._not_authorised(
                caller,
                f"iam:{action}",
                "*",
                f" because no identity-based policy allows the iam:{action} action",
            )
        of_account = f":iam::{caller.account}:"
        match action:
            case "GetRole":
                arn = next(
                    (
                        arn
                        for arn in self.roles
                        if of_account in arn and arn.rsplit("/", 1)[-1] == form.get("RoleName")
                    ),
                    None,
                )
                if arn is None:
                    raise _no_entity(f"The role with name {form.get('RoleName')} cannot be found.")
                result = _xml({"Role": self._role(arn)})
            case "ListRoles":
                prefix = form.get("PathPrefix", "/")
                found = [
                    self._role(arn)
                    for arn in sorted(self.roles)
                    if of_account in arn and _path_of(arn).startswith(prefix)
                ]
                most, start = int(form.get("MaxItems", 100)), int(form.get("Marker", 0))
                page = found[start : start + most]
                listed: dict[str, Any] = {"Roles": {"member": page}}
                listed["IsTruncated"] = "true" if start + most < len(found) else "false"
                if start + most < len(found):
                    listed["Marker"] = str(start + most)
                result = _xml(listed)
            case "GetOpenIDConnectProvider":
                arn = form.get("OpenIDConnectProviderArn", "")
                if arn not in self.oidc_providers or of_account not in arn:
                    raise _no_entity(f"OpenIDConnect Provider not found for arn {arn}")
                result = _xml(
                    {
                        "Url": arn.split(":oidc-provider/", 1)[1],
                        "ClientIDList": {"member": list(self.oidc_providers[arn])},
                        "ThumbprintList": {"member": []},
                        "CreateDate": "2026-01-05T10:00:00Z",
                    }
                )
            case "ListOpenIDConnectProviders":
                arns = [{"Arn": arn} for arn in self.oidc_providers if of_account in arn]
                result = _xml({"OpenIDConnectProviderList": {"member": arns}})
            case "GetSAMLProvider":
                metadata = self._saml_provider(form, of_account)
                result = _xml(
                    {"SAMLMetadataDocument": metadata, "CreateDate": "2026-01-05T10:00:00Z"}
                )
            case "ListSAMLProviders":
                arns = [{"Arn": arn} for arn in self.saml_providers if of_account in arn]
                result = _xml({"SAMLProviderList": {"member": arns}})
            case "UpdateSAMLProvider":
                self._saml_provider(form, of_account)
                metadata = form.get("SAMLMetadataDocument", "")
                self.saml_providers[form["SAMLProviderArn"]] = _checked_metadata(metadata)
                result = _xml({"SAMLProviderArn": form["SAMLProviderArn"]})
            case _:
                raise Refusal("InvalidAction", f"Could not find operation {action}")
        return _envelope(action, result, "https://iam.amazonaws.com/doc/2010-05-08/")

    def _saml_provider(self, form: Mapping[str, str], of_account: str) -> str:
        arn = form.get("SAMLProviderArn", "")
        if arn not in self.saml_providers or of_account not in arn:
            raise _no_entity(f"Manifest not found for arn {arn}")
        metadata = self.saml_providers[arn]
        return metadata.decode() if isinstance(metadata, bytes) else metadata

    def _role(self, arn: str) -> dict[str, Any]:
        role = self.roles[arn]
        return {
            "Path": _path_of(arn),
            "RoleName": arn.rsplit("/", 1)[-1],
            "RoleId": "AROA" + hashlib.sha256(arn.encode()).hexdigest()[:17].upper(),
            "Arn": arn,
            "CreateDate": "2026-01-05T10:00:00Z",
            "AssumeRolePolicyDocument": quote(json.dumps(role.document)),
            "Description": role.description,
            "MaxSessionDuration": str(role.max_seconds),
            "Tags": {"member": [{"Key": key, "Value": value} for key, value in role.tags.items()]},
        }


# --- Policies


def allows(
    policy: Mapping[str, Any],
    action: str,
    principals: set[str],
    kind: str,
    context: Mapping[str, Any],
) -> bool:
    """Whether a trust policy allows an action to one of these principals. An explicit Deny wins."""
    statements = policy["Statement"]
    verdict = False
    for statement in statements if isinstance(statements, list) else [statements]:
        if not _about(statement, action, principals, kind):
            continue
        if not _conditions_hold(statement.get("Condition", {}), context):
            continue
        if statement["Effect"] == "Deny":
            return False
        verdict = True
    return verdict


def _about(statement: Mapping[str, Any], action: str, principals: set[str], kind: str) -> bool:
    if not _any_like(action, _listed(statement.get("Action", []))):
        return False
    principal = statement.get("Principal", {})
    if principal == "*":
        return kind == "AWS"
    return bool(set(_listed(principal.get(kind, []))) & principals)


def _conditions_hold(conditions: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    known = {key.lower(): value for key, value in context.items()}
    return all(
        _holds(operator, known.get(key.lower()), _listed(values))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    )


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda found, wanted: found == wanted,
    "StringEqualsIgnoreCase": lambda found, wanted: found.lower() == wanted.lower(),
    "StringLike": lambda found, wanted: _like(found, wanted),
    "ArnEquals": lambda found, wanted: _like(found, wanted),
    "ArnLike": lambda found, wanted: _like(found, wanted),
    "Bool": lambda found, wanted: found.lower() == wanted.lower(),
}


def _holds(operator: str, value: Any, wanted: list[str]) -> bool:
    """One condition. Raises ValueError for an operator that this does not know: a test must not pass by accident."""
    quantifier, _, operator = operator.rpartition(":")
    if operator == "Null":
        return (value is None) is (str(wanted[0]).lower() == "true")
    optional = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    negated = operator.replace("Not", "") in _TESTS and "Not" in operator
    test = _TESTS.get(operator.replace("Not", "") if negated else operator)
    if test is None or quantifier not in ("", "ForAnyValue", "ForAllValues"):
        raise ValueError(f"unknown condition operator {operator}")
    if value is None:
        return optional or negated or quantifier == "ForAllValues"
    found = [str(one) for one in _listed(value)]

    def fits(one: str) -> bool:
        return any(test(one, str(want)) for want in wanted) is not negated

    return (
        all(map(fits, found)) if quantifier == "ForAllValues" or negated else any(map(fits, found))
    )


def _like(found: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(found, pattern.replace("[", "[[]"))


def _any_like(action: str, patterns: Iterable[str]) -> bool:
    return any(_like(action.lower(), pattern.lower()) for pattern in patterns)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


# --- Reading requests


def _role_arn(form: Mapping[str, str]) -> str:
    arn = form.get("RoleArn", "")
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\x21-\x7e]+", arn):
        raise Refusal("ValidationError", f"{arn} is invalid")
    return arn


def _session_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refusal(
            "ValidationError",
            f"1 validation error detected: Value '{name}' at 'roleSessionName' failed to "
            r"satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
        )
    return name


def _asked_seconds(form: Mapping[str, str]) -> int:
    seconds = int(form.get("DurationSeconds", 3600))
    if not 900 <= seconds <= 43200:
        side = "greater than or equal to 900" if seconds < 900 else "less than or equal to 43200"
        raise Refusal(
            "ValidationError",
            f"1 validation error detected: Value '{seconds}' at 'durationSeconds' failed "
            f"to satisfy constraint: Member must have value {side}",
        )
    return seconds


def _check_seconds(seconds: int, role: StrictRole) -> None:
    if seconds > role.max_seconds:
        raise Refusal(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )


def _invalid_length(name: str, least: int, most: int) -> Refusal:
    return Refusal(
        "ValidationError",
        f"1 validation error detected: Value at '{name}' failed to satisfy constraint: "
        f"Member must have length between {least} and {most}",
    )


def _check_source_identity(text: str) -> None:
    if text and (not _NAME.fullmatch(text) or text.lower().startswith("aws:")):
        raise Refusal(
            "ValidationError",
            f"1 validation error detected: Value '{text}' at 'sourceIdentity' failed to "
            r"satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
        )


def _check_tags(tags: Mapping[str, str], transitive: Iterable[str]) -> None:
    if len(tags) > 50 or len({key.lower() for key in tags}) < len(tags):
        raise Refusal(
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        )
    for key, value in tags.items():
        fits = re.compile(r"[\w\s.:/=+\-@]*")
        if not 1 <= len(key) <= 128 or len(value) > 256 or key.lower().startswith("aws:"):
            raise Refusal(
                "ValidationError",
                f"1 validation error detected: Value '{key}' at 'tags' failed to satisfy "
                "constraint",
            )
        if not fits.fullmatch(key) or not fits.fullmatch(value):
            raise Refusal(
                "ValidationError",
                f"1 validation error detected: Value '{value}' at 'tags' failed to "
                r"satisfy constraint: [\p{L}\p{Z}\p{N}_.:/=+\-@]*",
            )
    missing = [key for key in transitive if key not in tags]
    if missing:
        raise Refusal(
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested "
            f"tags: {missing[0]}",
        )


def _packed(form: Mapping[str, str], tags: Mapping[str, str]) -> int:
    """Percent of the space that policies and tags take together."""
    policy = form.get("Policy", "")
    if policy:
        if len(policy) > 2048:
            raise _invalid_length("policy", 1, 2048)
        try:
            statements = json.loads(policy)["Statement"]
            fine = all(
                {"Effect"} <= set(one) and {"Action", "NotAction"} & set(one)
                for one in _listed(statements)
            )
        except (ValueError, KeyError, TypeError):
            fine = False
        if not fine:
            raise Refusal("MalformedPolicyDocument", "The policy is not in the valid JSON format.")
    arns = [item["arn"] for item in _members(form, "PolicyArns")]
    if len(arns) > 10:
        raise _invalid_length("policyArns", 0, 10)
    tagged = sum(len((key + value).encode()) + TAG_OVERHEAD for key, value in tags.items())
    policies = len(zlib.compress((policy + "".join(arns)).encode())) if policy or arns else 0
    percent = round(100 * (tagged / TAG_SPACE + policies / POLICY_SPACE))
    if percent > 100:
        what = "session tags" if tagged / TAG_SPACE > policies / POLICY_SPACE else "policy"
        raise Refusal(
            "PackedPolicyTooLarge", f"Packed size of {what} consumes {percent}% of allotted space."
        )
    return percent


def _list(form: Mapping[str, str], name: str) -> list[str]:
    found = (
        (key, value) for key, value in form.items() if re.fullmatch(rf"{name}\.member\.\d+", key)
    )
    return [value for _, value in sorted(found, key=lambda item: int(item[0].rsplit(".", 1)[1]))]


def _members(form: Mapping[str, str], name: str) -> list[dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for key, value in form.items():
        match = re.fullmatch(rf"{name}\.member\.(\d+)\.(\w+)", key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = value
    return [found[number] for number in sorted(found)]


# --- Reading tokens and assertions


def _peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims as they stand there; nothing is believed before the signature is verified."""
    try:
        first, second, _ = token.split(".")
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in (first, second)
        )
        if isinstance(header, dict) and isinstance(claims, dict):
            return header, claims
    except ValueError:
        pass
    raise Refusal(
        "InvalidIdentityToken",
        "The ID Token provided is not a valid JWT. (You may see this error if you "
        "sent an Access Token)",
    )


def _whole(value: Any) -> int:
    """Whole numbers, quoted or not; fractions fail."""
    if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)):
        raise ValueError(value)
    return int(value)


def _check_roles_claim(claims: Mapping[str, Any], role_arn: str) -> str:
    said = claims.get(f"{_AWS}roles")
    if said is None:
        return "false"
    named = said.split(";") if isinstance(said, str) else list(said)
    if role_arn not in named:
        raise Refusal(
            "InvalidIdentityToken",
            "The target role ARN is not present in the roles claim of the identity token",
        )
    return "true"


def _tags_of_token(claims: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    nested = claims.get(f"{_AWS}tags") or {}
    tags: dict[str, str] = {}
    for key, values in nested.get("principal_tags", {}).items():
        if not isinstance(values, list) or len(values) != 1:
            raise Refusal(
                "InvalidIdentityToken", "The session tags in the identity token are not valid"
            )
        tags[key] = str(values[0])
    transitive = list(nested.get("transitive_tag_keys", []))
    flat = f"{_AWS}tags/principal_tags/"
    tags |= {
        key.removeprefix(flat): str(value) for key, value in claims.items() if key.startswith(flat)
    }
    transitive += claims.get(f"{_AWS}tags/transitive_tag_keys", [])
    _check_tags(tags, transitive)
    return tags, tuple(transitive)


def _attributes(assertion: etree._Element) -> dict[str, list[str]]:
    """AWS's attributes, without their prefix. A blank around a value breaks sign-in, so it is kept."""
    return {
        str(one.get("Name")).removeprefix(_SAML_ATTRIBUTES): [
            value.text or "" for value in one.iterfind("saml:AttributeValue", _NS)
        ]
        for one in assertion.iterfind("saml:AttributeStatement/saml:Attribute", _NS)
        if str(one.get("Name")).startswith(_SAML_ATTRIBUTES)
    }


def _only(attributes: Mapping[str, list[str]], name: str) -> str:
    values = attributes.get(name, [])
    if len(values) > 1:
        raise Refusal("InvalidIdentityToken", f"{name} must have one value")
    return values[0] if values else ""


def _name_qualifier(issuer: str, provider_arn: str) -> str:
    place = f"{provider_arn.split(':')[4]}/{provider_arn.rsplit('/', 1)[-1]}"
    return base64.b64encode(hashlib.sha1(f"{issuer}{place}".encode()).digest()).decode()


def _instant(text: str | None) -> datetime:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        raise Refusal("InvalidIdentityToken", "Invalid SAML date") from None


def _checked_metadata(text: str) -> str:
    """Metadata as IAM takes it, or its refusal."""
    try:
        root = etree.fromstring(text.encode())
        keys = root.findall(".//ds:X509Certificate", _NS)
        if len(text) >= 1000 and root.get("entityID") and 1 <= len(keys) <= 10:
            return text
    except etree.XMLSyntaxError:
        pass
    raise Refusal("InvalidInput", "Could not parse metadata")


# --- Small things


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is no answer."""

    def redirect_request(self, *args: Any) -> None:
        return None


_opener = build_opener(ProxyHandler({}), _NoRedirect)


def _below(url: str, prefix: str) -> bool:
    return url == prefix or url.startswith(prefix.rstrip("/") + "/")


def _letters(count: int) -> str:
    return "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(count))


def _path_of(role_arn: str) -> str:
    path = role_arn.split(":role", 1)[1]
    return path[: path.rindex("/") + 1]


def _session_arn(role_arn: str, name: str) -> str:
    """AWS drops the role's path."""
    _, partition, _, _, account, _ = role_arn.split(":", 5)
    return f"arn:{partition}:sts::{account}:assumed-role/{role_arn.rsplit('/', 1)[-1]}/{name}"


def _account_in(form: Mapping[str, str]) -> str:
    return next((form[name].split(":")[4] for name in ("RoleArn",) if name in form), "")


def _no_entity(message: str) -> Refusal:
    return Refusal("NoSuchEntity", message, 404)


def _xml(value: Mapping[str, Any]) -> str:
    parts = []
    for name, item in value.items():
        for one in item if isinstance(item, list) else [item]:
            inner = _xml(one) if isinstance(one, Mapping) else escape(str(one))
            parts.append(f"<{name}>{inner}</{name}>")
    return "".join(parts)


def _envelope(action: str, result: str, namespace: str) -> str:
    return (
        f'<{action}Response xmlns="{namespace}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>{secrets.token_hex(8)}</RequestId></ResponseMetadata></{action}Response>"
    )
