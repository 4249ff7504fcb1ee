"""The files for proxies as docs/operations.md has them: what is tried is what people copy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT

PAGE = ROOT / "docs" / "operations.md"
HOST = "daypass.example.com"
BEHIND = "127.0.0.1:8000"

BEGIN, END = "<!-- tried: begin -->", "<!-- tried: end -->"


@dataclass(frozen=True, slots=True)
class Written:
    """One proxy as the page has it.

    language: of its block. dropping: what has to stand there instead of what, so that the header of AWS's clients is
    dropped. needs: what the file says that nothing else says for it. folders: where its paths lead.
    """

    name: str
    language: str
    dropping: tuple[str, str]
    needs: tuple[str, ...]
    folders: tuple[str, ...] = ("/etc/ssl/daypass",)


NGINX = Written(
    "nginx",
    "nginx",
    ("    underscores_in_headers on;\n", ""),
    (
        "underscores_in_headers on;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header Host $host;",
        "client_body_buffer_size 512k;",
        "proxy_buffer_size 16k;",
        "proxy_max_temp_file_size 0;",
        "access_log /var/log/nginx/daypass.log daypass;",
        "error_log /var/log/nginx/daypass-error.log crit;",
        "listen [::]:443 ",
    ),
    ("/etc/ssl/daypass", "/var/log/nginx"),
)
APACHE = Written(
    "Apache",
    "apache",
    ("    ProxyAddHeaders On\n", "    RequestHeader unset x-amz-sso_bearer_token\n"),
    (
        "RequestHeader unset X-Forwarded-For",
        "ProxyAddHeaders On",
        "ProxyPreserveHost On",
        "disablereuse=on",
    ),
    ("/etc/ssl/daypass", "/var/log/apache2"),
)
HAPROXY = Written(
    "HAProxy",
    "haproxy",
    (
        "    http-reuse never\n",
        "    http-reuse never\n    option http-restrict-req-hdr-names delete\n",
    ),
    (
        "mode http",
        "http-request set-header X-Forwarded-For %[src]",
        "tune.bufsize 32768",
        "log-format ",
        "http-reuse never",
    ),
)
CADDY = Written(
    "Caddy",
    "caddyfile",
    (
        "        transport http {\n",
        "        header_up -x-amz-sso_bearer_token\n        transport http {\n",
    ),
    ("reverse_proxy 127.0.0.1:8000", "keepalive off", "request>headers delete"),
)
ENVOY = Written(
    "Envoy",
    "yaml",
    ("headers_with_underscores_action: ALLOW", "headers_with_underscores_action: DROP_HEADER"),
    (
        "use_remote_address: true",
        "append_action: OVERWRITE_IF_EXISTS_OR_ADD",
        "envoy.filters.http.buffer",
        "timeout: 65s",
        "max_requests_per_connection: 1",
    ),
)

ALL = (NGINX, APACHE, HAPROXY, CADDY, ENVOY)


def taken(written: Written, page: Path = PAGE) -> str:
    """The proxy's file as the page has it. Raises LookupError unless there is exactly one block of its language."""
    section = page.read_text().partition("## The proxy in front\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(rf"(?ms)^```{written.language}\n(.*?)^```$", section)
    if len(found) != 1:
        raise LookupError(f"{page.name} has {len(found)} blocks of {written.language}")
    return found[0]


def placed(written: Written, text: str, folder: Path) -> str:
    """The file with its folders moved into this one, and nothing else changed. Raises LookupError for a stray one."""
    for place in written.folders:
        if place not in text:
            raise LookupError(f"{written.name}: nothing is in {place}")
        text = text.replace(place, str(folder))
    return text


def strays(written: Written, text: str) -> list[str]:
    """Paths in the file that lead to none of its folders."""
    said = re.sub(r"(?m)#.*$", "", text)
    paths = re.findall(r"(?<![\w/.:*])/(?:etc|var|usr|run|tmp|srv)[\w./-]*", said)
    return [path for path in paths if not path.startswith(written.folders)]


def dropping(written: Written, text: str) -> str:
    """The same file, but such that the header of AWS's clients is dropped. Raises LookupError when it cannot be."""
    before, after = written.dropping
    if text.count(before) != 1:
        raise LookupError(
            f"{written.name}: {before.strip()!r} stands there {text.count(before)} times"
        )
    return text.replace(before, after)


def record(tried: Mapping[str, str], page: Path = PAGE) -> None:
    """Write into the page which versions were tried and when; what was not tried now keeps its line."""
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    lines, _, after = rest.partition(END)
    known = {line[2:].split(" ")[0]: line for line in lines.splitlines() if line.startswith("- ")}
    known |= {name: f"- {name} {said}" for name, said in tried.items()}
    sorted_lines = [known[one.name] for one in ALL if one.name in known]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(sorted_lines) + f"\n{END}{after}")
