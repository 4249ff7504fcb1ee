"""Other people's identity providers as servers of a test: on loopback, each on a free port, ended by their process.

They live at 127.0.0.1 while Daypass is opened at localhost: two sites for a browser, as in production. Every one takes
changes while it runs, as its administrator would make them.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.interop import parts
from tests.interop.people import PASSWORD, Somebody
from tests.servers import free_port, wait_for_port

HERE = Path(__file__).resolve().parent

NAMEID = "urn:oasis:names:tc:SAML:2.0:nameid-format:"
PERSISTENT, TRANSIENT = NAMEID + "persistent", NAMEID + "transient"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"


class Running:
    """A server process in a group of its own. clock: what its clock is off by, such as -15m."""

    process: subprocess.Popen[str]

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, words: list[str], *, log: Path, clock: str = "", **more: str) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(log.parent), **more}
        if clock:
            environment |= {
                "LD_PRELOAD": str(parts.faketime()),
                "FAKETIME": clock,
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        with log.open("a") as output:
            self.process = subprocess.Popen(
                words,
                cwd=HERE,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(timeout=5)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def key_pair(name: str, *, days: int = 365) -> tuple[str, str]:
    """A private RSA key and its self-signed certificate, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


class SimpleSamlPhp(Running):
    """SimpleSAMLphp 1.19 on PHP's own server. `idp` is what saml20-idp-hosted.php says."""

    def __init__(self, folder: Path, people: tuple[Somebody, ...], *, clock: str = "") -> None:
        super().__init__()
        self.folder = folder
        for place in (folder, folder / "sessions", folder / "tmp"):
            place.mkdir(parents=True, exist_ok=True)
        self.key("now")
        self.settings: dict[str, Any] = {
            "salt": secrets.token_hex(16),
            "people": {f"{one.login}:{PASSWORD}": one.attributes() for one in people},
            "trusted": {},
        }
        self.idp: dict[str, Any] = {}
        self.configure()
        self.start(
            [
                parts.php(),
                *("-d", "opcache.enable=1", "-d", "opcache.validate_timestamps=0"),
                *("-d", "display_errors=0", "-d", "session.gc_probability=0"),
                *("-S", f"127.0.0.1:{self.port}", str(HERE / "simplesamlphp/router.php")),
            ],
            log=folder / "php.log",
            clock=clock,
            PHP_CLI_SERVER_WORKERS="4",
            INTEROP_FOLDER=str(folder),
            INTEROP_URL=self.url,
            **self._environment,
        )
        wait_for_port(self.port, self.process)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "INTEROP_SIMPLESAMLPHP": str(parts.simplesamlphp()),
            "SIMPLESAMLPHP_CONFIG_DIR": str(HERE / "simplesamlphp"),
        }

    @property
    def base(self) -> str:
        return f"{self.url}/simplesamlphp"

    @property
    def entity_id(self) -> str:
        return f"{self.base}/saml2/idp/metadata.php"

    metadata_url = entity_id

    def key(self, name: str) -> None:
        """Make a key pair under this name, in place of one that is there."""
        private, certificate = key_pair(f"SimpleSAMLphp {name}")
        (self.folder / f"{name}.key").write_text(private)
        (self.folder / f"{name}.crt").write_text(certificate)

    def configure(self, **idp: Any) -> None:
        """What the identity provider does from now on: the usual, and this. None takes an entry away."""
        usual: dict[str, Any] = {
            "privatekey": "now.key",
            "certificate": "now.crt",
            "saml20.sign.response": True,
            "saml20.sign.assertion": True,
            "validate.authnrequest": True,
            "validate.logout": True,
            "sign.logout": True,
            "NameIDFormat": PERSISTENT,
            "authproc": {"3": {"class": "saml:PersistentNameID", "attribute": "uid"}},
        }
        self.idp = {name: value for name, value in (usual | idp).items() if value is not None}
        self._write()

    def trust(self, metadata: bytes, **options: Any) -> str:
        """Import a service provider's metadata, add options to its entry. Answers its entity id."""
        done = subprocess.run(
            [parts.php(), str(HERE / "simplesamlphp/import.php")],
            input=metadata,
            env=os.environ
            | self._environment
            | {"INTEROP_FOLDER": str(self.folder), "INTEROP_URL": self.url},
            capture_output=True,
            check=True,
        )
        [entity] = json.loads(done.stdout)
        self.settings["trusted"][entity["entityid"]] = entity | options
        self._write()
        return str(entity["entityid"])

    def log(self) -> str:
        return (self.folder / "simplesamlphp.log").read_text()

    def _write(self) -> None:
        draft = self.folder / "settings.new"
        draft.write_text(json.dumps(self.settings | {"idp": self.idp}))
        draft.replace(self.folder / "settings.json")


class Node(Running):
    """A script of this folder on Node: told what to be in one line of JSON, and changed by further ones."""

    def __init__(
        self, script: str, folder: Path, settings: Mapping[str, Any], *, clock: str = ""
    ) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.start(
            [parts.node(), "--no-warnings", str(HERE / script)],
            log=folder / "node.log",
            clock=clock,
        )
        self.say(port=self.port, url=self.url, **settings)

    def log(self) -> str:
        return (self.folder / "node.log").read_text()

    def say(self, **settings: Any) -> dict[str, Any]:
        """Change something; what the provider answered. Raises RuntimeError with its log when it ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(settings) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(self.log()[-4000:])
        return dict(json.loads(answer))


class OidcProvider(Node):
    """npm's oidc-provider."""

    def __init__(self, folder: Path, people: tuple[Somebody, ...], **settings: Any) -> None:
        clock = settings.pop("clock", "")
        super().__init__(
            "oidc-provider.mjs",
            folder,
            {"people": {p.login: p.claims() for p in people}, "password": PASSWORD, **settings},
            clock=clock,
        )

    @property
    def issuer(self) -> str:
        return self.url


class Samlp(Node):
    """Auth0's SAML identity provider, npm's samlp: the one that encrypts as Daypass accepts it."""

    def __init__(self, folder: Path, people: tuple[Somebody, ...], *, clock: str = "") -> None:
        key, certificate = key_pair("samlp")
        super().__init__(
            "samlp.mjs",
            folder,
            {
                "people": {p.login: p.attributes() for p in people},
                "password": PASSWORD,
                "key": key,
                "certificate": certificate,
            },
            clock=clock,
        )

    @property
    def entity_id(self) -> str:
        return f"{self.url}/metadata"

    metadata_url = entity_id
