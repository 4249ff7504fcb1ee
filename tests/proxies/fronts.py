"""A proxy started with its file from the page, in a folder of its own: what a distribution puts around such a file.

The ports are the ones that stand in the file, because all of this happens in a network of its own (`__main__`).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.proxies.page import APACHE, CADDY, ENVOY, HAPROXY, HOST, NGINX, Written
from tests.proxies.parts import Program
from tests.servers import wait_for_port


@dataclass(frozen=True)
class Front:
    """A proxy that runs. log: what it printed; written: the files in which it writes what was asked of it."""

    written: Written
    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    def spooled(self) -> int:
        """When a file was last made, or taken away, where it puts what it does not keep in memory."""
        return (self.folder / "spool").stat().st_mtime_ns

    def said(self) -> str:
        """Everything that it wrote down so far."""
        files = [self.log, *self.folder.glob("*.log")]
        return "\n".join(path.read_text(errors="replace") for path in files if path.exists())


NGINX_AROUND = """\
daemon off;
user root;
worker_processes 2;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/spool;
    proxy_temp_path {folder}/spool;
    fastcgi_temp_path {folder}/spool;
    scgi_temp_path {folder}/spool;
    uwsgi_temp_path {folder}/spool;
    include {file};
}}
"""

APACHE_MODULES = (
    *("mpm_event", "authz_core", "ssl", "socache_shmcb", "http2", "proxy", "proxy_http"),
    *("headers", "reqtimeout", "alias"),
)
APACHE_AROUND = """\
ServerRoot {folder}
PidFile {folder}/pid
DefaultRuntimeDir {folder}
Mutex pthread
ServerName localhost
User nobody
Group nogroup
Listen 80
Listen 443
LogLevel info
ErrorLog {folder}/error.log
{modules}
IncludeOptional {file}
"""


def _nginx(program: Program, folder: Path, file: Path) -> list[str]:
    whole = folder / "nginx.conf"
    whole.write_text(NGINX_AROUND.format(folder=folder, file=file))
    return [program.path, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(whole)]


def _apache(program: Program, folder: Path, file: Path) -> list[str]:
    place = program.root / "usr/lib/apache2/modules"
    modules = "\n".join(
        f"LoadModule {name}_module {place}/mod_{name}.so"
        for name in APACHE_MODULES
        if (place / f"mod_{name}.so").exists()
    )
    whole = folder / "apache2.conf"
    whole.write_text(APACHE_AROUND.format(folder=folder, file=file, modules=modules))
    return [program.path, "-f", str(whole), "-D", "FOREGROUND"]


HAPROXY_AROUND = """\
global
    log stdout format raw local0
defaults
    log global
    mode http
    option httplog
    option dontlognull
    timeout connect 5000
    timeout client 50000
    timeout server 50000
"""


def _haproxy(program: Program, folder: Path, file: Path) -> list[str]:
    before = folder / "before.cfg"
    before.write_text(HAPROXY_AROUND)
    return [program.path, "-db", "-f", str(before), "-f", str(file)]


def _caddy(program: Program, folder: Path, file: Path) -> list[str]:
    return [program.path, "run", "--config", str(file), "--adapter", "caddyfile"]


def _envoy(program: Program, folder: Path, file: Path) -> list[str]:
    return [program.path, "-c", str(file), "--concurrency", "2", "--use-dynamic-base-id"]


STARTING = {
    NGINX.name: ("nginx", "daypass.conf", _nginx),
    APACHE.name: ("apache2", "daypass.conf", _apache),
    HAPROXY.name: ("haproxy", "haproxy.cfg", _haproxy),
    CADDY.name: ("caddy", "Caddyfile", _caddy),
    ENVOY.name: ("envoy", "envoy.yaml", _envoy),
}
"""Proxy -> its program, what its file is called, and the command that starts it."""


@contextmanager
def started(written: Written, program: Program, text: str, folder: Path) -> Iterator[Front]:
    """The proxy with this text as its file. Raises RuntimeError with what it said when it does not start."""
    _, name, words = STARTING[written.name]
    file = folder / name
    file.write_text(text)
    log = folder / "printed"
    command = words(program, folder, file)
    spool = folder / "spool"
    spool.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "HOME": str(folder),
                "TMPDIR": str(spool),
                **program.environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    front = Front(written, process, folder, log)
    try:
        try:
            for port in (443, 80):
                wait_for_port(port, process)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{front.said()}") from None
        yield front
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=15)
        _until_free(443)


def _until_free(port: int) -> None:
    import socket

    until = time.monotonic() + 15
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"something still listens on {port}")


def certificates_in(folder: Path) -> Path:
    """An authority of nobody's and a certificate for Daypass's name, in the files that the page names; the authority's.

    The parts are in the usual order: the certificate first, then its chain.
    """
    authority, root = _signed("Example authority", None)
    key, leaf = _signed(HOST, (authority, root))
    chain = leaf.public_bytes(serialization.Encoding.PEM) + root.public_bytes(
        serialization.Encoding.PEM
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "fullchain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(secret)
    (folder / "bundle.pem").write_bytes(chain + secret)
    trusted = folder / "authority.pem"
    trusted.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    return trusted


Signer = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def _signed(name: str, by: Signer | None) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signer = by[0] if by else key
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[1].subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if by:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    else:
        made = made.add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    return key, made.sign(signer, hashes.SHA256())
