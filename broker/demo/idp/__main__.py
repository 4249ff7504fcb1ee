"""`python -m broker.demo.idp`: fill the identity providers' own database, then serve them."""

from __future__ import annotations

import os
from typing import Any


def _fill() -> None:
    from allauth.account.models import EmailAddress
    from allauth.idp.oidc.models import Client
    from django.contrib.auth.hashers import make_password
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from broker.demo.cast import CAST, CONTRACTORS, PASSWORD
    from broker.demo.preparation import read, signature
    from broker.demo.stage import HERE, current_stage

    stage = current_stage()
    stamp = stage.idp_folder / "filled"
    sign = signature(HERE, extra=(stage.origin,))
    if read(stamp) == sign:
        return
    call_command("migrate", interactive=False, verbosity=0)
    password = make_password(
        PASSWORD
    )  # everybody's, and printed at the start: one hash is enough, and slow enough
    for person in CAST:
        user, new = User.objects.get_or_create(username=person.login)
        if new:
            user.password = password
        user.first_name, _, user.last_name = person.name.partition(" ")
        user.email = person.email
        user.save()
        EmailAddress.objects.update_or_create(
            user=user, email=person.email, defaults={"verified": True, "primary": True}
        )
    client = Client.objects.filter(id="daypass").first() or Client(id="daypass")
    client.name = "Daypass"
    client.set_secret(stage.secrets["DEMO_OIDC_CLIENT_SECRET"])
    client.set_scopes(["openid", "profile", "email", "groups"])
    client.set_redirect_uris([f"{stage.origin}/oidc/{CONTRACTORS}/callback/"])
    client.set_post_logout_redirect_uris([f"{stage.origin}/signed-out/"])
    client.skip_consent = True
    client.save()
    stamp.write_text(sign, encoding="utf-8")


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "broker.demo.idp.settings"
    import django

    django.setup()
    _fill()

    from django.core.wsgi import get_wsgi_application
    from gunicorn.app.base import BaseApplication

    from broker.demo.stage import LOOPBACK, current_stage

    application = get_wsgi_application()
    bind = f"{LOOPBACK}:{current_stage().idp_port}"

    class Server(BaseApplication):
        def load_config(self) -> None:
            for name, value in {
                "bind": bind,
                # One process: authorization codes are kept in its memory.
                "workers": 1,
                "worker_class": "gthread",
                "threads": 8,
                "graceful_timeout": 3,
                "limit_request_line": 8190,
                "control_socket_disable": True,
                "post_worker_init": _warm_up,
            }.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return application

    Server().run()


def _warm_up(worker: Any) -> None:
    """pysaml2 takes two seconds to import; nobody should wait for that at their first sign-in."""
    import threading

    from broker.demo.idp.saml import import_pysaml2

    threading.Thread(target=import_pysaml2, daemon=True).start()


if __name__ == "__main__":
    main()
