"""An OpenID Connect provider for tests: real HTTP on loopback, ID tokens signed by joserfc.

`OidcIdp` runs in a thread; a browser (or `authorize`) is signed in as `idp.person` without being asked. The code flow
is played in earnest: redirect URI, client secret and proof key (PKCE) are checked. `bend` hooks change one thing each.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from tests.spare_keys import of_a_provider

ADA: dict[str, Any] = {
    "sub": "248289761001",
    "preferred_username": "ada",
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "groups": ["aws-admins", "aws-readers"],
}


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class OidcIdp:
    client_id: str = "daypass"
    client_secret: str = "shared between Daypass and the provider"
    person: Mapping[str, Any] = field(default_factory=lambda: dict(ADA))
    algorithm: str = "RS256"
    # What to change: the ID token's claims, its whole text, the token answer, the callback's query, userinfo.
    bend_claims: Callable[[dict], None] = lambda claims: None
    bend_header: Callable[[dict], None] = lambda header: None
    bend_token: Callable[[str], str | None] = lambda token: token
    bend_answer: Callable[[dict], None] = lambda answer: None
    bend_callback: Callable[[dict], None] = lambda query: None
    bend_userinfo: Callable[[dict], None] = lambda claims: None
    bend_discovery: Callable[[dict], None] = lambda document: None
    bend_keys: Callable[[dict], None] = lambda document: None
    bend_logout: Callable[[dict], None] = lambda claims: None
    elsewhere: dict[str, Any] = field(default_factory=dict)
    """What other paths answer, or these ones instead; None is 404."""
    ready: Any = None
    """A key that was made before: RSA keys take a tenth of a second each."""
    in_the_header: bool = False
    """The client secret is taken by HTTP Basic instead of in the body."""
    methods: tuple[str, ...] = ()
    """How it is said to be taken, where the provider takes it in more ways from others."""

    def __post_init__(self) -> None:
        self.key = self.ready or self.new_key()
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: set[str] = set()
        self.asked: list[str] = []
        """Paths that were asked for, in order."""
        self.logged_out: list[dict[str, str]] = []
        self.instead: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        """By path: what answers in place of the provider, down to the bytes."""
        idp = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                idp._get(self)

            def do_POST(self) -> None:
                idp._post(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def new_key(self, **parameters: Any) -> Any:
        parameters = {"kid": secrets.token_hex(4), "use": "sig"} | parameters
        if self.algorithm == "ES256":
            return ECKey.generate_key("P-256", parameters, private=True)
        spare = of_a_provider(self)
        return RSAKey(spare, spare, parameters)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    @property
    def issuer(self) -> str:
        return f"http://{self.authority}"

    @property
    def discovery(self) -> dict[str, Any]:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.algorithm],
            "token_endpoint_auth_methods_supported": list(self.methods)
            or ["client_secret_basic" if self.in_the_header else "client_secret_post"],
            "authorization_response_iss_parameter_supported": True,
        }
        self.bend_discovery(document)
        return document

    # -- the browser's part

    def authorize(self, url: str) -> str:
        """What a browser gets from the authorization endpoint: the address of the callback."""
        query = {k: v[0] for k, v in parse_qs(urlsplit(url).query).items()}
        assert query["response_type"] == "code"
        assert query["client_id"] == self.client_id
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        back = {"code": code, "state": query["state"], "iss": self.issuer}
        self.bend_callback(back)
        return f"{query['redirect_uri']}?{urlencode(back)}"

    # -- the back channel

    def id_token(self, asked: Mapping[str, str], access_token: str) -> str | None:
        now = int(time.time())
        claims = {
            **{k: v for k, v in self.person.items() if v is not None},
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "at_hash": _b64(hashlib.sha256(access_token.encode()).digest()[:16]),
            "jti": secrets.token_hex(8),
        }
        if "nonce" in asked:
            claims["nonce"] = asked["nonce"]
        self.bend_claims(claims)
        header = {"alg": self.algorithm, "typ": "JWT", "kid": self.key.kid}
        self.bend_header(header)
        return self.bend_token(self.sign(header, claims))

    def sign(self, header: dict[str, Any], claims: dict[str, Any], key: Any = None) -> str:
        registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
        return jwt.encode(header, claims, key or self.key, registry=registry)

    def sign_text(self, payload: bytes, key: Any = None, **header: Any) -> str:
        """A good signature over a payload that need not be claims, nor JSON."""
        header = {"alg": self.algorithm, "typ": "JWT", "kid": self.key.kid} | header
        registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
        return jws.serialize_compact(header, payload, key or self.key, registry=registry)

    def logout_token(self, *, sid: str | None = None, key: Any = None, **header: Any) -> str:
        """What is sent to the back channel when `person`, or one session of theirs, is signed out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "sub": self.person["sub"],
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        }
        if sid is not None:
            claims["sid"] = sid
        self.bend_logout(claims)
        header = {"alg": self.algorithm, "typ": "logout+jwt", "kid": self.key.kid} | header
        return self.sign(header, claims, key)

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        self.asked.append(parts.path)
        if parts.path in self.elsewhere:
            found = self.elsewhere[parts.path]
            return self._json(request, found or {}, 404 if found is None else 200)
        if parts.path in self.instead:
            return self.instead[parts.path](request)
        match parts.path:
            case "/.well-known/openid-configuration":
                self._json(request, self.discovery)
            case "/jwks":
                document = {"keys": [self.key.as_dict(private=False)]}
                self.bend_keys(document)
                self._json(request, document)
            case "/authorize":
                self._redirect(request, self.authorize(request.path))
            case "/userinfo":
                token = request.headers.get("Authorization", "").removeprefix("Bearer ")
                if token not in self.tokens:
                    return self._json(request, {"error": "invalid_token"}, 401)
                claims = dict(self.person)
                self.bend_userinfo(claims)
                self._json(request, claims)
            case "/logout":
                query = {k: v[0] for k, v in parse_qs(parts.query).items()}
                self.logged_out.append(query)
                self._redirect(request, query["post_logout_redirect_uri"])
            case _:
                self._json(request, {"error": "not found"}, 404)

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        length = int(request.headers.get("Content-Length", 0))
        form = {k: v[0] for k, v in parse_qs(request.rfile.read(length).decode()).items()}
        if request.path in self.instead:
            return self.instead[request.path](request)
        if self.methods and self._secret(request, form) != self.client_secret:
            return self._json(request, {"error": "invalid_client"}, 401)
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = _b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            request.path != "/token"
            or asked is None
            or self._secret(request, form) != self.client_secret
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge != asked["code_challenge"]
        ):
            return self._json(request, {"error": "invalid_grant"}, 400)
        access_token = secrets.token_urlsafe(24)
        self.tokens.add(access_token)
        answer = {"access_token": access_token, "token_type": "Bearer", "expires_in": 300}
        token = self.id_token(asked, access_token)
        if token is not None:
            answer["id_token"] = token
        self.bend_answer(answer)
        self._json(request, answer)

    def _secret(self, request: BaseHTTPRequestHandler, form: Mapping[str, str]) -> str | None:
        """The client secret, where it has to be and nowhere else (RFC 6749 section 2.3.1)."""
        header = request.headers.get("Authorization")
        if not self.in_the_header:
            return form.get("client_secret") if header is None else None
        if header is None or "client_secret" in form:
            return None
        pair = base64.b64decode(header.removeprefix("Basic ")).decode()
        client_id, secret = map(unquote_plus, pair.split(":"))
        return secret if client_id == self.client_id else None

    @staticmethod
    def _json(request: BaseHTTPRequestHandler, document: Any, status: int = 200) -> None:
        body = json.dumps(document).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    @staticmethod
    def _redirect(request: BaseHTTPRequestHandler, url: str) -> None:
        request.send_response(302)
        request.send_header("Location", url)
        request.send_header("Content-Length", "0")
        request.end_headers()
