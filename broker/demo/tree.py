"""The demo's one process tree: what runs in it, written down for supervisord."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from broker.demo.stage import LOOPBACK, ROOT, Stage, valkey_server


@dataclass(frozen=True, slots=True)
class Program:
    """One process of the tree. order: lower ones are started first and stopped last."""

    name: str
    command: tuple[str, ...]
    order: int = 50
    patience: int = 15


def programs(stage: Stage) -> tuple[Program, ...]:
    python = sys.executable
    celery = (python, "-m", "celery", "-A", "broker.celery")
    return (
        Program("valkey", (valkey_server(), str(stage.folder / "valkey.conf")), order=10),
        Program("aws", (python, "-m", "broker.demo.aws"), order=20),
        Program("idps", (python, "-m", "broker.demo.idp"), order=20),
        Program(
            "web",
            (python, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "broker.wsgi"),
            order=20,
            patience=25,
        ),
        Program(
            "worker",
            (*celery, "worker", "--concurrency=1", "--loglevel=INFO", "--without-mingle"),
            order=20,
            patience=30,
        ),
        Program(
            "beat",
            (*celery, "beat", "--loglevel=INFO", f"--pidfile={stage.folder / 'beat.pid'}"),
            order=20,
        ),
    )


def write_valkey(stage: Stage) -> None:
    _private(
        stage.folder / "valkey.conf",
        "\n".join(
            (
                f"bind {LOOPBACK}",
                f"port {stage.valkey_port}",
                "protected-mode yes",
                f"requirepass {stage.secrets['DEMO_VALKEY_PASSWORD']}",
                f'dir "{stage.folder / "valkey"}"',
                "appendonly yes",
                "appendfsync everysec",
                "maxmemory 256mb",
                "maxmemory-policy noeviction",
                "",
            )
        ),
    )


def write_supervisor(stage: Stage) -> Path:
    """The configuration of supervisord: it restarts what dies and, when it is told to stop, stops everything."""
    head = f"""\
[supervisord]
nodaemon=true
silent=true
directory={_value(ROOT)}
logfile={_value(stage.logs / "supervisor.log")}
logfile_maxbytes=2MB
logfile_backups=1
pidfile={_value(stage.folder / "supervisor.pid")}
childlogdir={_value(stage.logs)}
"""
    parts = [head]
    for program in programs(stage):
        command = shlex.join((sys.executable, "-m", "broker.demo.actor", *program.command))
        parts.append(
            f"""
[program:{program.name}]
command={_value(command)}
priority={program.order}
autorestart=true
startsecs=2
startretries=20
stopsignal=TERM
stopwaitsecs={program.patience}
killasgroup=true
redirect_stderr=true
stdout_logfile={_value(stage.logs / f"{program.name}.log")}
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=1
"""
        )
    # Groups are stopped one after the other, what is in a group at once: everything, and then what it needs.
    rest = ",".join(program.name for program in programs(stage) if program.order > 10)
    parts.append(f"\n[group:daypass]\nprograms={rest}\npriority=20\n")
    path = stage.folder / "supervisor.conf"
    _private(path, "".join(parts))
    return path


def _value(value: object) -> str:
    return str(value).replace("%", "%%")


def _private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
