"""Documentation that lies fails the build."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_environment_variable_is_documented_and_every_documented_one_is_read():
    read = set()
    for source in ("broker/settings.py", "gunicorn.conf.py"):
        text = (ROOT / source).read_text()
        read |= set(
            re.findall(r'(?:env\.\w+\(|os\.environ\.get\(|os\.environ\[)\s*"([A-Z_]+)"', text)
        )
    documented = set(
        re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.M)
    )

    assert read == documented


def test_every_relative_link_in_the_documentation_leads_somewhere():
    broken = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")

    assert broken == []
