"""Terraform itself on our configurations, where it and its AWS provider are at hand.

Neither comes from PyPI, so neither is promised: without them these tests are not collected, and conftest.py says so.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from broker.trust import terraform
from tests.trust import cast
from tests.trust.conftest import TERRAFORM, TERRAFORM_PROVIDERS


def run(folder, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    return subprocess.run(
        [TERRAFORM, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("account", cast.ACCOUNTS.values(), ids=cast.ACCOUNTS)
@pytest.mark.parametrize("options", cast.OPTIONS.values(), ids=cast.OPTIONS)
def test_terraform_reads_it_and_would_lay_it_out_no_other_way(account, options, tmp_path):
    (tmp_path / "daypass.tf").write_text(terraform.configuration(account, options))

    done = run(tmp_path, "fmt", "-check", "-diff", "-no-color")

    assert done.returncode == 0, done.stdout + done.stderr


if TERRAFORM_PROVIDERS:

    @pytest.mark.parametrize("account", cast.ACCOUNTS.values(), ids=cast.ACCOUNTS)
    def test_terraform_and_its_provider_find_it_valid(account, tmp_path):
        (tmp_path / "daypass.tf").write_text(terraform.configuration(account, cast.CHOSEN))
        begun = run(tmp_path, "init", "-no-color", f"-plugin-dir={TERRAFORM_PROVIDERS}")
        assert begun.returncode == 0, begun.stderr

        done = run(tmp_path, "validate", "-no-color")

        assert done.returncode == 0, done.stdout + done.stderr
