"""Where somebody wanted to go before they had to sign in.

The page is kept as a signed token: it says nothing that the address bar had not said, it ends after an hour, and it can
only ever lead to a page of Daypass.
"""

from __future__ import annotations

from urllib.parse import urlencode

from django.conf import settings
from django.core import signing
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from broker.sheets import is_htmx

SALT = "accounts.places"
LIFETIME = 3600
LONGEST = 2000


def is_page(path: str) -> bool:
    """Whether this is a path on our own origin, and nothing that a browser would read as another one."""
    return (
        path.startswith("/")
        and len(path) <= LONGEST
        and not path.startswith(("//", "/\\"))
        and not any(ord(c) < 33 or ord(c) == 127 or c == "\\" for c in path)
        and url_has_allowed_host_and_scheme(path, allowed_hosts=None)
        and not path.startswith(("/sign-in/", "/sign-out/", "/signed-out/", "/saml/", "/oidc/"))
    )


def keep(path: str) -> str:
    """A token for a page, "" for the home page and for what is no page of ours."""
    if path == "/" or not is_page(path):
        return ""
    return signing.dumps(path, salt=SALT, compress=True)


def find(token: str) -> str:
    """The page of a token, "" when there is none, it is altered or too old."""
    if not token:
        return ""
    try:
        path = signing.loads(token, salt=SALT, max_age=LIFETIME)
    except signing.BadSignature:
        return ""
    return path if isinstance(path, str) and is_page(path) else ""


def sign_in_url(path: str = "/", *, fresh: bool = False) -> str:
    """The sign-in page, from which the person comes back to `path`. `fresh`: they have to authenticate anew."""
    query = {"to": keep(path), "fresh": "1" if fresh else ""}
    query = {name: value for name, value in query.items() if value}
    return reverse(settings.LOGIN_URL) + (f"?{urlencode(query)}" if query else "")


def wanted(request: HttpRequest) -> str:
    """The page to come back to after this request had to be interrupted: itself, or for a form the page it was on."""
    if is_htmx(request):
        current = request.headers.get("HX-Current-URL", "")
        path = current.removeprefix(settings.DAYPASS_ORIGIN)
        return path if path != current and is_page(path) else "/"
    if request.method in ("GET", "HEAD"):
        return request.get_full_path()
    referer = request.headers.get("Referer", "")
    path = referer.removeprefix(settings.DAYPASS_ORIGIN)
    return path if path != referer and is_page(path) else "/"
