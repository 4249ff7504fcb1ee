"""The strict STS itself: its calls, and the few of IAM."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, quote, urlsplit
from urllib.request import Request
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

from tests.strict_sts.policies import allows, any_like
from tests.strict_sts.proofs import (
    _attributes,
    check_roles_claim,
    checked_metadata,
    instant,
    name_qualifier,
    only,
    peek,
    tags_of_token,
    whole,
)
from tests.strict_sts.reading import (
    _list,
    _packed,
    _role_arn,
    asked_seconds,
    check_seconds,
    check_source_identity,
    check_tags,
    invalid_length,
    members,
    session_name,
)
from tests.strict_sts.serving import Server
from tests.strict_sts.small import (
    _below,
    _xml,
    account_in,
    envelope,
    letters,
    no_entity,
    opener,
    path_of,
    session_arn,
)
from tests.strict_sts.values import (
    _AWS,
    ALGORITHMS,
    CHAINED_SECONDS,
    FETCH_SECONDS,
    NAME,
    NS,
    REDEEM_SECONDS,
    SAML_AUDIENCES,
    THROTTLED,
    TOLERANCE,
    Caller,
    Given,
    Outage,
    Refusal,
    Seen,
    StrictRole,
)


class StrictSts(Server):
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
        key_id, secret = f"AKIA{letters(16)}", secrets.token_urlsafe(30)
        self.callers[key_id] = Caller(arn, secret, permissions=permissions)
        return key_id, secret

    def lend(
        self, role_arn: str, *, name: str = "instance", permissions: Iterable[str] | None = None
    ) -> tuple[str, str, str]:
        """Credentials of a role as a machine or task has them: (access key id, secret, session token)."""
        role = self.roles.get(role_arn)
        session = session_arn(role_arn, name)
        caller = Caller(
            session,
            secrets.token_urlsafe(30),
            secrets.token_urlsafe(60),
            role_arn,
            self.now() + timedelta(hours=6),
            permissions=permissions if permissions is not None else role and role.permissions,
        )
        key_id = f"ASIA{letters(16)}"
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
                f"STS is not activated in this region for account:{account_in(form)}. Your account administrator can "
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
        return envelope(action, result, "https://sts.amazonaws.com/doc/2011-06-15/")

    # --- AssumeRoleWithWebIdentity

    def _web_identity(self, form: Mapping[str, str], region: str) -> str:
        role_arn = _role_arn(form)
        name = session_name(form.get("RoleSessionName", ""))
        seconds = asked_seconds(form)
        token = form.get("WebIdentityToken", "")
        if not 4 <= len(token) <= 20000:
            raise invalid_length("webIdentityToken", 4, 20000)
        header, claims = peek(token)
        provider_arn, prefix = self._oidc_provider(role_arn, str(claims.get("iss", "")))
        self._verify(token, header, str(claims["iss"]))
        self._check_times(claims)
        audience = self._check_audience(claims, self.oidc_providers[provider_arn])
        subject = claims.get("sub")
        if not subject:
            raise Refusal("InvalidIdentityToken", "Missing a required claim: sub")
        authorised = check_roles_claim(claims, role_arn) if self.knows_roles_claim else None
        tags, transitive = tags_of_token(claims)
        source_identity = str(claims.get(f"{_AWS}source_identity", ""))
        check_source_identity(source_identity)
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
        check_seconds(seconds, role)
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
        if algorithm not in ALGORITHMS:
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
            with opener.open(request, timeout=FETCH_SECONDS) as answer:
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
            issued, ends = whole(claims["iat"]), whole(claims["exp"])
            begins = whole(claims.get("nbf", 0))
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
        seconds = asked_seconds(form)
        text = form.get("SAMLAssertion", "")
        if not 4 <= len(text) <= 100_000:
            raise invalid_length("sAMLAssertion", 4, 100000)
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
        name = only(attributes, "RoleSessionName")
        if not name:
            raise Refusal("InvalidIdentityToken", "RoleSessionName is required in AuthnResponse")
        if not NAME.fullmatch(name):
            raise Refusal(
                "InvalidIdentityToken",
                "RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}",
            )
        source_identity = only(attributes, "SourceIdentity")
        check_source_identity(source_identity)
        tags = {
            key.partition(":")[2]: only(attributes, key)
            for key in attributes
            if key.startswith("PrincipalTag:")
        }
        transitive = tuple(attributes.get("TransitiveTagKeys", ()))
        check_tags(tags, transitive)
        context = {
            "SAML:aud": said["recipient"],
            "SAML:iss": said["issuer"],
            "SAML:sub": said["subject"],
            "SAML:sub_type": said["format"],
            "SAML:doc": "/".join((role_arn.split(":")[4], provider_arn.rsplit("/", 1)[-1])),
            "SAML:namequalifier": name_qualifier(said["issuer"], provider_arn),
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
        check_seconds(seconds, role)
        if "SessionDuration" in attributes:
            try:
                seconds = min(seconds, int(only(attributes, "SessionDuration")))
            except ValueError:
                raise Refusal("InvalidIdentityToken", "SessionDuration must be a number") from None
        if said["session_ends"]:
            left = int((instant(said["session_ends"]) - self.now()).total_seconds())
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
        status = response.find("samlp:Status/samlp:StatusCode", NS)
        if status is None or not str(status.get("Value")).endswith(":status:Success"):
            raise Refusal(
                "IDPRejectedClaim",
                "The identity provider (IdP) reported that authentication failed.",
                403,
            )
        found = response.findall("saml:Assertion", NS)
        if len(found) != 1:
            raise Refusal("InvalidIdentityToken", "Response must contain exactly one assertion")
        document = etree.fromstring(
            metadata.encode() if isinstance(metadata, str) else metadata, parser
        )
        if found[0].findtext("saml:Issuer", namespaces=NS) != document.get("entityID"):
            raise Refusal(
                "AuthSamlInvalidSamlResponseException", "Issuer not present in specified provider"
            )
        alone = etree.tostring(found[0])
        for certificate in document.iterfind(".//ds:X509Certificate", NS):
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
        name_id = assertion.find("saml:Subject/saml:NameID", NS)
        if name_id is None or not name_id.text:
            raise Refusal("AccessDenied", "Not authorized to perform sts:AssumeRoleWithSAML", 403)
        confirmations = assertion.findall(
            "saml:Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData", NS
        )
        if len(confirmations) != 1 or not {"NotOnOrAfter", "Recipient"} <= set(
            confirmations[0].keys()
        ):
            raise Refusal(
                "InvalidIdentityToken",
                "Responses must contain SubjectConfirmatonData with a Recipient and NotOnOrAfter",
            )
        recipient = str(confirmations[0].get("Recipient"))
        audiences = [one.text for one in assertion.iterfind("saml:Conditions//saml:Audience", NS)]
        if not {SAML_AUDIENCES[partition], recipient} & set(audiences):
            raise Refusal(
                "InvalidIdentityToken", "Response does not contain the required audience."
            )
        conditions = assertion.find("saml:Conditions", NS)
        if instant(assertion.get("IssueInstant")) + timedelta(seconds=REDEEM_SECONDS) <= now:
            raise Refusal(
                "ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance"
            )
        for ends in (confirmations[0].get("NotOnOrAfter"), conditions.get("NotOnOrAfter")):
            if ends and instant(ends) <= now:
                raise Refusal(
                    "ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance"
                )
        if conditions.get("NotBefore") and instant(conditions.get("NotBefore")) > now:
            raise Refusal("InvalidIdentityToken", "Assertion is not yet valid")
        statement = assertion.find("saml:AuthnStatement", NS)
        short = "urn:oasis:names:tc:SAML:2.0:nameid-format:"
        return {
            "subject": name_id.text,
            "format": str(name_id.get("Format", "")).removeprefix(short),
            "issuer": str(assertion.findtext("saml:Issuer", namespaces=NS)),
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
        name = session_name(form.get("RoleSessionName", ""))
        seconds = asked_seconds(form)
        given = {item["Key"]: item.get("Value", "") for item in members(form, "Tags")}
        transitive = tuple(_list(form, "TransitiveTagKeys"))
        check_tags(given, transitive)
        if {key.lower() for key in given} & {key.lower() for key in caller.transitive_tags}:
            raise Refusal(
                "ValidationError",
                "One of the specified transitive tag keys can't be set because it "
                "conflicts with a transitive tag key from the calling session.",
            )
        tags = given | dict(caller.transitive_tags)
        source_identity = form.get("SourceIdentity", "")
        check_source_identity(source_identity)
        wanted = self._wanted("sts:AssumeRole", given, source_identity)
        denied = self._not_authorised(caller, wanted[0], role_arn)
        if caller.source_identity and source_identity not in ("", caller.source_identity):
            raise denied
        own_account = caller.account == role_arn.split(":")[4]
        for action in wanted:
            allowed = caller.permissions is None or any_like(action, caller.permissions)
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
        check_seconds(seconds, role)
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
            raise invalid_length("durationSeconds", 900, 129600)
        if caller.permissions is not None and not any_like(
            "sts:GetFederationToken", caller.permissions
        ):
            raise self._not_authorised(caller, "sts:GetFederationToken", f"federated-user/{name}")
        tags = {item["Key"]: item.get("Value", "") for item in members(form, "Tags")}
        check_tags(tags, ())
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
        arn = session_arn(role_arn, name)
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
        user = {"AssumedRoleId": f"AROA{letters(17)}:{name}", "Arn": arn}
        answer: dict[str, Any] = {"Credentials": credentials, "AssumedRoleUser": user}
        if packed:
            answer["PackedPolicySize"] = str(packed)
        if source_identity:
            answer["SourceIdentity"] = source_identity
        return _xml(answer | dict(more))

    def _keep(self, session: Caller, given: Given) -> dict[str, str]:
        key_id = f"ASIA{letters(16)}"
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
        if caller.permissions is not None and not any_like(f"iam:{action}", caller.permissions):
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
                    raise no_entity(f"The role with name {form.get('RoleName')} cannot be found.")
                result = _xml({"Role": self._role(arn)})
            case "ListRoles":
                prefix = form.get("PathPrefix", "/")
                found = [
                    self._role(arn)
                    for arn in sorted(self.roles)
                    if of_account in arn and path_of(arn).startswith(prefix)
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
                    raise no_entity(f"OpenIDConnect Provider not found for arn {arn}")
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
                self.saml_providers[form["SAMLProviderArn"]] = checked_metadata(metadata)
                result = _xml({"SAMLProviderArn": form["SAMLProviderArn"]})
            case _:
                raise Refusal("InvalidAction", f"Could not find operation {action}")
        return envelope(action, result, "https://iam.amazonaws.com/doc/2010-05-08/")

    def _saml_provider(self, form: Mapping[str, str], of_account: str) -> str:
        arn = form.get("SAMLProviderArn", "")
        if arn not in self.saml_providers or of_account not in arn:
            raise no_entity(f"Manifest not found for arn {arn}")
        metadata = self.saml_providers[arn]
        return metadata.decode() if isinstance(metadata, bytes) else metadata

    def _role(self, arn: str) -> dict[str, Any]:
        role = self.roles[arn]
        return {
            "Path": path_of(arn),
            "RoleName": arn.rsplit("/", 1)[-1],
            "RoleId": "AROA" + hashlib.sha256(arn.encode()).hexdigest()[:17].upper(),
            "Arn": arn,
            "CreateDate": "2026-01-05T10:00:00Z",
            "AssumeRolePolicyDocument": quote(json.dumps(role.document)),
            "Description": role.description,
            "MaxSessionDuration": str(role.max_seconds),
            "Tags": {"member": [{"Key": key, "Value": value} for key, value in role.tags.items()]},
        }
