"""Northwind contractors: django-allauth's OpenID Connect provider, with groups and the proof in its ID tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from allauth.core import context
from allauth.idp.oidc import views
from allauth.idp.oidc.adapter import DefaultOIDCAdapter
from allauth.idp.oidc.models import Client
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.views import redirect_to_login
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from broker.demo.cast import CAST, CastMember
from broker.demo.idp.proof import Proof, proof_of, take_fresh


def _member(login: str) -> CastMember | None:
    return next((person for person in CAST if person.login == login), None)


class Adapter(DefaultOIDCAdapter):
    """What the tokens say of a person."""

    def get_user_sub(self, client: Client, user: AbstractBaseUser) -> str:
        member = _member(user.get_username())
        return member.subject if member else ""

    def get_user_by_sub(self, client: Client, sub: str) -> AbstractBaseUser | None:
        from django.contrib.auth.models import User

        login = next((person.login for person in CAST if person.subject == sub), "")
        return User.objects.filter(username=login, is_active=True).first()

    def get_claims(
        self,
        purpose: Any,
        user: AbstractBaseUser,
        client: Client,
        scopes: Iterable[str],
        email: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        claims: dict[str, Any] = super().get_claims(
            purpose, user, client, scopes, email=email, **kwargs
        )
        member = _member(user.get_username())
        if member is not None and "profile" in scopes:
            claims |= {
                "name": member.name,
                "department": member.department,
                "cost_centre": member.cost_centre,
            }
        if member is not None and "groups" in scopes:
            claims["groups"] = list(member.groups)
        return claims

    def populate_id_token(
        self, id_token: dict[str, Any], client: Client, scopes: Iterable[str], **kwargs: Any
    ) -> None:
        proof: Proof | None = getattr(context.request, "demo_proof", None)
        if proof is not None:
            id_token["auth_time"] = proof.at
            id_token["amr"] = ["pwd", "otp", "mfa"] if proof.mfa else ["pwd"]

    def populate_server_metadata(self, data: dict[str, Any]) -> None:
        data["scopes_supported"] = ["openid", "profile", "email", "groups"]
        data["claims_supported"] = ["sub", "name", "email", "groups", "auth_time", "amr"]


@csrf_exempt
def authorize(request: HttpRequest) -> HttpResponse:
    """allauth's authorization endpoint, after a sign-in for this request; the proof stays with the code."""
    if not take_fresh(request):
        return redirect_to_login(request.get_full_path())
    # The sign-in has just happened, whatever prompt was asked for.
    query = request.GET.copy()
    query.pop("prompt", None)
    request.GET = query  # type: ignore[assignment]
    answer: HttpResponse = views.authorization(request)
    code = parse_qs(urlsplit(answer.headers.get("Location", "")).query).get("code", [""])[0]
    proof = proof_of(request)
    if code and proof:
        cache.set(f"proof-{code}", proof, timeout=120)
    return answer


@csrf_exempt
def token(request: HttpRequest) -> HttpResponse:
    """allauth's token endpoint; the ID token says what the code's sign-in proved."""
    request.demo_proof = cache.get(f"proof-{request.POST.get('code', '')}")  # type: ignore[attr-defined]
    answer: HttpResponse = views.token(request)
    return answer
