"""Signing keys in the admin: their state, since when, what comes next; and the accounts that have to follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from accounts.models import Person
from broker.audit.administrators import actor_of, by
from broker.backoffice import (
    NOTHING,
    Attention,
    Deed,
    DetailAdmin,
    Panel,
    add_deed,
    attentions,
    chip,
    consequence,
    contributes,
    health,
    panel,
    plural,
    url_of,
)
from broker.entitlements.models import AwsAccount, AwsRole
from broker.errors import BadInput
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.templatetags.backoffice import exact, moment
from broker.upkeep import queries, rules, services

State = SigningKey.State
Purpose = SigningKey.Purpose
COLOURS = {
    State.PUBLISHED: "blue",
    State.SIGNING: "green",
    State.RETIRED: "grey",
    State.REMOVED: "grey",
    State.REVOKED: "red",
}


def _since(key: SigningKey) -> Any:
    if key.state == State.SIGNING:
        return key.signing_since
    return key.created_at if key.state == State.PUBLISHED else key.retired_at


def said(planned: rules.Planned) -> str:
    """A step as a sentence."""
    when = f"{planned.at:%Y-%m-%d %H:%M} UTC"
    match planned.deed:
        case "publish":
            text = f"The next key is published on {when}."
        case "remove":
            text = f"It is taken out of what is published on {when}."
        case "rotate":
            text = (
                f"It can sign from {when} on, when somebody lets it: rotation by schedule is off."
                if planned.by_hand
                else f"It is due to sign from {when} on."
            )
    if not planned.obstacles:
        return text
    return f"{text} In the way: {rules.listed(planned.obstacles)}."


def _next(key: SigningKey) -> str:
    plan = queries.plan(Purpose(key.purpose))
    if key.state == State.SIGNING:
        return next((said(step) for step in plan if step.deed == "publish"), "")
    return next((said(step) for step in plan if step.kid == key.kid), "")


# --- What can be done


def _publish(request: HttpRequest, key: SigningKey) -> str:
    made = keys.publish_next(Purpose(key.purpose), now=timezone.now(), actor=actor_of(request))
    return format_html('Published <a href="{}">{}</a>. {}', url_of(made), made, _next(made))


def _rotate(request: HttpRequest, key: SigningKey) -> str:
    signing = services.rotate(Purpose(key.purpose), now=timezone.now(), actor=actor_of(request))
    return f"{signing} signs now."


def _remove(request: HttpRequest, key: SigningKey) -> str:
    keys.remove(key.kid, now=timezone.now(), actor=actor_of(request))
    return "Removed. Its private half is destroyed."


def _revoke(request: HttpRequest, key: SigningKey) -> str:
    _, chores = services.revoke(key.kid, now=timezone.now(), actor=actor_of(request))
    todo = " This page says what to do in each account now." if chores else ""
    return f"Revoked. Nothing is signed with it any more.{todo}"


def _nobody_waits(key: SigningKey) -> bool:
    waiting = SigningKey.objects.filter(purpose=key.purpose, state=State.PUBLISHED)
    return key.state == State.SIGNING and not waiting.exists()


def _warn_publish(key: SigningKey) -> str:
    more = (
        " For SAML its metadata then has to reach every account before it can sign."
        if key.purpose == Purpose.SAML
        else ""
    )
    return f"The key that will sign next is published beside this one, which goes on signing.{more}"


def _too_early_to_sign(key: SigningKey) -> str:
    situation = queries.situation(Purpose(key.purpose))
    plan = rules.plan(replace(situation, behind=()))
    turn = next((step for step in plan if step.kid == key.kid), None)
    if turn is None:
        return "It cannot sign yet: another key comes first."
    early = turn.at > timezone.now()
    if not (early or turn.obstacles or situation.behind):
        return ""
    sentences = [
        f"It cannot sign before {turn.at:%Y-%m-%d %H:%M} UTC: AWS may need until then to know it."
        if early
        else "It cannot sign yet."
    ]
    if situation.behind:
        have = "has" if len(situation.behind) == 1 else "have"
        sentences.append(
            f"{rules.listed(situation.behind)} {have} to be given today's metadata; the commands are on the key's page."
        )
    if turn.obstacles:
        sentences.append(f"In the way: {rules.listed(turn.obstacles)}.")
    return " ".join(sentences)


def _too_early_to_remove(key: SigningKey) -> str:
    plan = queries.plan(Purpose(key.purpose))
    turn = next((step for step in plan if step.kid == key.kid), None)
    if turn is None or turn.at <= timezone.now():
        return ""
    return f"It cannot be removed yet: it stays published until {turn.at:%Y-%m-%d %H:%M} UTC, for what it signed last."


def _warn_revoke(key: SigningKey) -> str:
    if key.state != State.SIGNING:
        return "It is taken out of everything published, for good. Nothing is signed with it today."
    until = (
        "each account is given the new metadata"
        if key.purpose == Purpose.SAML
        else "AWS fetches the new key set"
    )
    if _nobody_waits(key):
        return (
            "Revoke this key only if somebody else may have it. A new one signs at once, and sign-in to AWS stops "
            f"until {until}. For an ordinary change use “Publish the next key”."
        )
    return (
        "Revoke this key only if somebody else may have it. The published one signs at once, and where AWS does not "
        f"know that one yet, sign-in to AWS stops until {until}. For an ordinary change use “Let it sign now” on the "
        "published one."
    )


@consequence("broker.signingkey", "revoke")
def behind_revoking(key: SigningKey) -> str:
    if key.state != State.SIGNING:
        return ""
    roles = AwsRole.objects.filter(
        trust=AwsRole.Trust.SAML if key.purpose == Purpose.SAML else AwsRole.Trust.WEB_IDENTITY,
        enabled=True,
        vanished_at=None,
        account__enabled=True,
        account__vanished_at=None,
    )
    count = roles.count()
    if not count:
        return "No role in use trusts this kind of key: nobody's way into AWS stops."
    people = Person.objects.filter(is_active=True, memberships__group__links__role__in=roles)
    return (
        f"This concerns {plural(roles.values('account').distinct().count(), 'account', 'accounts')}, "
        f"{plural(count, 'role', 'roles')} and {plural(people.distinct().count(), 'person', 'people')} known so far."
    )


DEEDS = (
    Deed("publish", "Publish the next key", _publish, _nobody_waits, _warn_publish),
    Deed(
        "rotate",
        "Let it sign now",
        _rotate,
        lambda key: bool(key.state == State.PUBLISHED),
        lambda key: (
            "AWS knows this key by now. The one that signs today is retired and stays published for a day."
        ),
        blocked=_too_early_to_sign,
    ),
    Deed(
        "remove",
        "Remove it",
        _remove,
        lambda key: bool(key.state == State.RETIRED),
        lambda key: "Nothing that it signed is alive any more once it has been retired for a day.",
        blocked=_too_early_to_remove,
    ),
    Deed(
        "revoke",
        "Revoke",
        _revoke,
        lambda key: bool(key.state != State.REVOKED),
        _warn_revoke,
        danger=True,
    ),
)


@admin.register(SigningKey)
class SigningKeyAdmin(DetailAdmin):
    deeds = DEEDS
    list_display = ("named", "state_now", "since", "comes_next", "certificate_ends")
    list_filter = ("purpose", "state")
    empty = "The first key of each purpose is made when it is first needed."
    intro = "With these Daypass signs what AWS accepts. The private halves are sealed, or in AWS KMS, and never shown."
    fields: ClassVar = (
        "kid",
        "purpose",
        "algorithm",
        "state",
        "backend",
        "kms_key_arn",
        "created_at",
        "signing_since",
        "retired_at",
        "expires_at",
        "certificate",
    )

    @admin.display(description="key", ordering="purpose")
    def named(self, key: SigningKey) -> str:
        return str(key)

    @admin.display(description="state", ordering="state")
    def state_now(self, key: SigningKey) -> str:
        return chip(key.get_state_display(), COLOURS[State(key.state)])

    @admin.display(description="since")
    def since(self, key: SigningKey) -> str:
        return moment(_since(key))

    @admin.display(description="what comes next")
    def comes_next(self, key: SigningKey) -> str:
        return _next(key) or NOTHING

    @admin.display(description="certificate ends", ordering="expires_at")
    def certificate_ends(self, key: SigningKey) -> str:
        return moment(key.expires_at)

    def lead(self, thing: SigningKey) -> str:
        return _next(thing)

    def facts(self, request: HttpRequest, thing: SigningKey) -> Sequence[tuple[str, Any]]:
        return [
            ("State", self.state_now(thing)),
            ("Since", exact(_since(thing))),
            ("Purpose", thing.get_purpose_display()),
            ("Key id", thing.kid),
            ("Algorithm", thing.algorithm),
            ("Made", exact(thing.created_at)),
            ("Signing since", exact(thing.signing_since) or "not yet"),
            ("Retired", exact(thing.retired_at) or "no"),
            ("Certificate ends", exact(thing.expires_at)),
            (
                "Private key",
                thing.kms_key_arn or ("sealed" if thing.private_sealed else "destroyed"),
            ),
        ]


@panel("broker.signingkey", position=10)
def accounts_that_lag(request: HttpRequest, key: SigningKey) -> Panel | None:
    """Of a SAML key that signs or will: which accounts still need it, and what to do there."""
    if key.purpose != Purpose.SAML or key.state not in (State.SIGNING, State.PUBLISHED):
        return None
    standings = queries.standings()
    rows = [
        {"standing": standing, "url": url_of(standing.account), "chore": standing.chore}
        for standing in standings
        if key in standing.behind
    ]
    if not rows:
        return Panel("Accounts that hold it", "admin/key_accounts.html", {"any": bool(standings)})
    return Panel(
        "Accounts that still need it",
        "admin/key_accounts.html",
        {"rows": rows[:100], "more": max(len(rows) - 100, 0)},
        note="Their SAML provider in IAM has to be given today's metadata before this key can sign."
        if key.state == State.PUBLISHED
        else "AWS takes nothing that it signs from an account whose SAML provider lacks it.",
    )


@panel("broker.signingkey", position=10)
def after_revocation(request: HttpRequest, key: SigningKey) -> Panel | None:
    if key.state != State.REVOKED or key.retired_at is None:
        return None
    chores = queries.after_revocation(Purpose(key.purpose), now=key.retired_at)
    return Panel(
        "What to do in each account",
        "admin/chores.html",
        {"chores": chores[:200], "more": max(len(chores) - 200, 0)},
        note="If somebody else may have had this key. Then look in CloudTrail for sessions that the audit log does not "
        "know.",
    )


@panel("broker.signingkey")
def certificate(request: HttpRequest, key: SigningKey) -> Panel:
    return Panel("Certificate", "admin/certificate.html", {"pem": key.certificate})


# --- On the page of an account


def _has_saml_roles(account: AwsAccount) -> bool:
    return account.roles.filter(trust=AwsRole.Trust.SAML).exists()


@panel("broker.awsaccount", position=40)
def saml_provider(request: HttpRequest, account: AwsAccount) -> Panel | None:
    if not _has_saml_roles(account):
        return None
    standing = queries.standing(account)
    return Panel(
        "Its SAML provider",
        "admin/account_saml.html",
        {
            "account": account,
            "standing": standing,
            "chore": standing.chore,
            "metadata": f"{settings.DAYPASS_ORIGIN}/aws/saml/metadata",
        },
        note="The IAM SAML provider of this account has to hold the key that signs, and the next one before its turn.",
    )


def _note_uploaded(request: HttpRequest, account: AwsAccount) -> str:
    services.note_uploaded(account.pk, now=timezone.now(), **by(request))
    return "Noted: the SAML provider holds today's metadata."


def _follow_up(request: HttpRequest, account: AwsAccount) -> str:
    if services.follow_up(account.pk, now=timezone.now()):
        return "Done: its SAML provider holds today's metadata."
    account.refresh_from_db()
    raise BadInput(f"Daypass could not do it. {account.saml_problem}")


add_deed(
    "broker.awsaccount",
    Deed(
        "saml-update",
        "Update its SAML provider",
        _follow_up,
        lambda account: (
            bool(account.discovery_role)
            and _has_saml_roles(account)
            and queries.standing(account).chore is not None
        ),
    ),
)
add_deed(
    "broker.awsaccount",
    Deed(
        "saml-uploaded",
        "I uploaded the SAML metadata",
        _note_uploaded,
        lambda account: _has_saml_roles(account) and queries.standing(account).chore is not None,
        lambda account: (
            "Say so only when today's metadata was uploaded to the IAM SAML provider "
            f"{account.saml_provider_name} of this account: keys change on the strength of it."
        ),
    ),
)


# --- What needs a hand


@contributes(attentions)
def steps_in_the_way(request: HttpRequest) -> Iterable[Attention]:
    now = timezone.now()
    for purpose in Purpose:
        for planned in queries.plan(purpose):
            if planned.at > now or not planned.obstacles:
                continue
            what = {"publish": "published", "rotate": "used", "remove": "removed"}[planned.deed]
            yield Attention(
                "soon",
                f"{purpose.label}: the next key cannot be {what}. {rules.listed(planned.obstacles)}",
                reverse("admin:broker_signingkey_changelist"),
                "See the keys",
            )


@contributes(attentions)
def copy_not_written(request: HttpRequest) -> Iterable[Attention]:
    if not settings.DAYPASS_PUBLISH_TO:
        return
    publication = queries.copy_now()
    if publication is not None and not publication.problem:
        return
    problem = publication.problem if publication else "It was never tried: is the worker running?"
    yield Attention(
        "wrong",
        f"AWS reads keys from {settings.DAYPASS_PUBLISH_TO}, and they could not be written there. No key changes until "
        f"they are. {problem}",
        reverse("admin:health"),
        "See what is published",
    )


@contributes(attentions)
def accounts_behind(request: HttpRequest) -> Iterable[Attention]:
    """Told of by their number: one line, however many."""
    behind = [standing for standing in queries.standings() if standing.behind]
    if not behind:
        return
    # An account that was never looked at may well hold the key; one that was, and lacks the key that signs, is shut.
    shut = [
        standing
        for standing in behind
        if standing.account.saml_checked_at is not None
        and any(key.state == State.SIGNING for key in standing.behind)
    ]
    waits = any(key.state == State.PUBLISHED for standing in behind for key in standing.behind)
    if not shut and SigningKey.objects.filter(purpose=Purpose.SAML).count() == 1:
        return  # nothing ever changed since the accounts were set up
    names = rules.listed(str(standing.account) for standing in shut or behind)
    key = SigningKey.objects.filter(
        purpose=Purpose.SAML, state=State.PUBLISHED if waits and not shut else State.SIGNING
    ).first()
    yield Attention(
        "wrong" if shut else "soon",
        f"People do not get into {names} by SAML: their SAML providers do not hold the key that signs."
        if shut
        else f"Not known to hold today's SAML metadata: {names}.",
        url_of(key) if key else reverse("admin:broker_signingkey_changelist"),
        "See what to do",
    )


@contributes(attentions)
def certificates_ending(request: HttpRequest) -> Iterable[Attention]:
    """Of the SAML key: AWS refuses assertions whose certificate in the uploaded metadata has ended."""
    soon = timezone.now() + timedelta(days=60)
    for key in SigningKey.objects.filter(state=State.SIGNING, expires_at__lt=soon):
        yield Attention(
            "soon",
            f"The certificate of Daypass's own {key.get_purpose_display()} key ends on "
            f"{exact(key.expires_at)}. Rotate it on its page or with manage.py signing_keys.",
            url_of(key),
            "See the key",
        )


@contributes(health)
def keys_in_use(request: HttpRequest) -> Panel:
    rows = [
        {
            "key": key,
            "url": url_of(key),
            "colour": COLOURS[State(key.state)],
            "next": _next(key),
        }
        for key in SigningKey.objects.exclude(state__in=(State.REVOKED, State.REMOVED))
    ]
    origin = settings.DAYPASS_ORIGIN
    return Panel(
        "Signing keys and what AWS reads",
        "admin/keys.html",
        {
            "rows": rows,
            "issuer": settings.DAYPASS_ISSUER,
            "audience": settings.DAYPASS_AUDIENCE,
            "discovery": f"{settings.DAYPASS_ISSUER}/.well-known/openid-configuration",
            "saml_entity_id": settings.DAYPASS_SAML_ENTITY_ID,
            "saml_metadata": f"{origin}/aws/saml/metadata",
            "publish_to": settings.DAYPASS_PUBLISH_TO,
            "copy": queries.copy_now() if settings.DAYPASS_PUBLISH_TO else None,
        },
        note="AWS fetches the OpenID documents by itself; the SAML metadata is uploaded to each account.",
    )
