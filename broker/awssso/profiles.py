"""What a person tells their computer so that AWS's clients ask Daypass: `~/.aws/config`, and a line for each client.

Pure, and the same text for the same roles, so that a newer one differs only where rights did. Everything that
administrators or directories typed (names of accounts, of people) is bent to plain ASCII on one line before it gets in:
half of the clients read the file in the encoding of the system, and each has its own idea of quoting.

AWS's pages: "Shared config and credentials files" and "Service-specific endpoints" of the SDK reference guide.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from broker.errors import BadInput

DEFAULT_NAMES = "{account}.{role}"
"""How profiles are called unless the person says otherwise."""

SSO_REGION = "daypass"
"""A host label that is no region: a call that misses `services` asks for portal.sso.daypass.amazonaws.com, which is
nobody's host, instead of bringing the token to AWS."""

IDENTIFIER = "https://identitycenter.amazonaws.com/"
"""AWS's own identifiers of Identity Center instances begin so. A name without an address: nothing listens there."""

LONGEST_NAMES = 100
LONGEST_CURLRC = 200
MOST_MERGED = 100_000
"""Characters of somebody's own file that are looked at."""

_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_ALIAS = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_REGION = re.compile(r"[a-z]{2,8}(-[a-z]+)+-\d{1,2}", re.ASCII)
_FIELD = re.compile(r"\{(\w*)\}", re.ASCII)
_BETWEEN = re.compile(r"[A-Za-z0-9_/.@:+-]*", re.ASCII)
_SHOWS_THE_END = re.compile(r"[_/.@:+]")
_KEYS = re.compile(r"^\s*aws_(secret_access_key|session_token)\s*=", re.IGNORECASE | re.MULTILINE)
_PATH = re.compile(r"(/|[A-Za-z]:[\\/])[\w./\\ -]{1,199}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ProfileRole:
    """One role as a profile names it. region: where the profile works unless a command says otherwise."""

    account_id: str
    account_name: str
    account_alias: str
    role_name: str
    region: str

    @property
    def can_be_written(self) -> bool:
        """Whether id, name and region are what AWS calls so, and cannot be read as anything else in the file."""
        return bool(
            _ACCOUNT_ID.fullmatch(self.account_id)
            and _ROLE_NAME.fullmatch(self.role_name)
            and _REGION.fullmatch(self.region)
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where this Daypass is, as clients are told it."""

    origin: str

    @property
    def session(self) -> str:
        """The name of its sso-session and services: its host, with its port if it has one.

        Clients keep tokens by this name alone, so that two sessions of one name would get each other's tokens. No
        Identity Center session is called like our host, and no two Daypasses are.
        """
        return re.sub(r"[\[\]]", "", urlsplit(self.origin).netloc.lower()).replace(":", "-")

    @property
    def label(self) -> str:
        """The last part of our identifier; AWS's own are 16 hexadecimal digits, which this never is."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.session).strip("-")
        return f"ssoins-{slug}" if slug.startswith("daypass-") else f"ssoins-daypass-{slug}"

    @property
    def identifier(self) -> str:
        return IDENTIFIER + self.label

    @property
    def start_url(self) -> str:
        """Ours where it can be checked; newer CLIs refuse addresses without TLS, so there the identifier itself."""
        return f"{self.origin}/start" if self.origin.startswith("https://") else self.identifier

    @property
    def endpoint(self) -> str:
        return f"{self.origin}/aws"

    @property
    def begin(self) -> str:
        return f"# >>> Daypass {self.session} >>>"

    @property
    def end(self) -> str:
        return f"# <<< Daypass {self.session} <<<"


# --- Names


@dataclass(frozen=True, slots=True)
class Names:
    """How profiles are called: a template that gives two roles two names, whatever other roles there are."""

    template: str = DEFAULT_NAMES

    def of(self, role: ProfileRole) -> str:
        account = _account_slug(role)
        fields = {"account": account, "account_id": role.account_id, "role": _safe(role.role_name)}
        return _FIELD.sub(lambda match: fields[match[1]], self.template)


def names(template: str) -> Names:
    """Read a template: {role} and one of {account} and {account_id}, once each. Raises BadInput.

    A name has to say by itself where the account ends and the role begins, else the profile of one role would have to
    change its name when another appears: payments-eu + admin and payments + eu-admin are the same text.
    """
    template = template.strip() or DEFAULT_NAMES
    fields = _FIELD.findall(template)
    texts = _FIELD.split(template)[::2]
    if len(template) > LONGEST_NAMES or not all(_BETWEEN.fullmatch(text) for text in texts):
        raise BadInput(
            f"Names of profiles are made of letters, digits and _ / . @ : + - and have a template of at most "
            f"{LONGEST_NAMES} characters, for example {DEFAULT_NAMES}."
        )
    if sorted(fields) not in (["account", "role"], ["account_id", "role"]):
        raise BadInput(
            "The template needs {role}, and {account} or {account_id}, once each: for example "
            + DEFAULT_NAMES
        )
    if "account" in fields and not _SHOWS_THE_END.search(texts[1]):
        raise BadInput(
            "Put one of _ / . @ : + between {account} and {role}: with less, two roles could get the same name."
        )
    return Names(template)


def _account_slug(role: ProfileRole) -> str:
    """Letters, digits and hyphens that belong to this account alone.

    An alias is one account's in all of AWS, as long as it is none that IAM would not take. Names are not: those bear
    the account id, always, and not only when a second account of that name is there.
    """
    alias = role.account_alias
    if _ALIAS.fullmatch(alias) and not re.search(r"(^|-)\d{12}$", alias, re.ASCII):
        return alias
    return "-".join(
        part for part in (_slug(role.account_name)[:40].strip("-"), role.account_id) if part
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", _ascii(text).lower()).strip("-")


def _safe(role_name: str) -> str:
    """A role's name in the characters that a profile's name may have; different for different names."""
    return role_name.replace("=", "%3D").replace(",", "%2C")


def _ascii(text: str) -> str:
    """As near as ASCII comes, on one line."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    return re.sub(r"[^ -~]+", "?", re.sub(r"\s+", " ", plain)).strip()


def _remark(text: str) -> str:
    """What may stand in a comment: nothing that a careless reader could take for a section or a setting."""
    return " ".join(re.sub(r"[\[\]=#;<>]+", " ", _ascii(text))[:100].split())


# --- The file


@dataclass(frozen=True, slots=True)
class Config:
    """A complete `~/.aws/config`. profiles: their names, in the order of the file. left_out: roles it cannot name."""

    text: str
    profiles: tuple[str, ...]
    sign_in: str
    left_out: int


def config(
    place: Place,
    roles: Iterable[ProfileRole],
    *,
    person: str,
    naming: Names | None = None,
    curlrc: str = "",
) -> Config:
    """The text between its two marks, and what is in it.

    curlrc: the path of a file for curl; with it the profiles get their keys by credential_process and a script token,
    for clients that know no other endpoint. Raises BadInput for a path that would need quoting.
    """
    naming = naming or Names()
    if curlrc and (len(curlrc) > LONGEST_CURLRC or not _PATH.fullmatch(curlrc)):
        raise BadInput(
            "Give the whole path of the file for curl, such as /home/you/.config/daypass/curlrc: clients expand "
            "neither ~ nor variables."
        )
    given = list(roles)
    usable = sorted(
        {naming.of(role): role for role in given if role.can_be_written}.items(),
        key=lambda pair: (_slug(pair[1].account_name), pair[1].account_id, pair[1].role_name),
    )
    sign_in = f"aws-login.{place.session}"
    if any(name == sign_in for name, _ in usable):
        sign_in = ""
    blocks = [_head(place, person)]
    if not curlrc:
        blocks.append(_shared(place))
    seen = ""
    for name, role in usable:
        remark = ""
        if role.account_id != seen:
            remark = f"# {_remark(role.account_name) or 'Account'} ({role.account_id})\n"
            seen = role.account_id
        body = _by_process(place, role, curlrc) if curlrc else _by_sso(place, role)
        blocks.append(f"{remark}[profile {name}]\n{body}")
    if not usable:
        blocks.append("# There is no role yet of which you may have keys.\n")
    if not curlrc:
        if sign_in:
            blocks.append(_by_login(place, sign_in, usable[0][1].region if usable else "us-east-1"))
        blocks.append(_onwards(place, usable[0][0] if usable else "profile"))
    return Config(
        text="\n".join(blocks) + f"\n{place.end}\n",
        profiles=tuple(name for name, _ in usable),
        sign_in="" if curlrc else sign_in,
        left_out=sum(not role.can_be_written for role in given),
    )


def _head(place: Place, person: str) -> str:
    return (
        f"{place.begin}\n"
        f"# Made by Daypass ({place.origin}) for {_remark(person) or 'you'}. There is no secret in it.\n"
        f"# What you change between the two marks is lost with the next one: {place.origin}/terminal/\n"
    )


def _shared(place: Place) -> str:
    return f"""\
# Sign in with any profile of this session: aws sso login --profile NAME
# sso_region is no region, on purpose: what misses the line "services" fails, instead of bringing a token to AWS.
[sso-session {place.session}]
sso_start_url = {place.start_url}
sso_region = {SSO_REGION}
sso_registration_scopes = sso:account:access

[services {place.session}]
sso =
  endpoint_url = {place.endpoint}
sso_oidc =
  endpoint_url = {place.endpoint}
signin =
  endpoint_url = {place.endpoint}
"""


def _by_sso(place: Place, role: ProfileRole) -> str:
    return f"""\
sso_session = {place.session}
sso_account_id = {role.account_id}
sso_role_name = {role.role_name}
region = {role.region}
services = {place.session}
"""


def _by_process(place: Place, role: ProfileRole, curlrc: str) -> str:
    return f"""\
credential_process = {process_line(place, role.account_id, role.role_name, curlrc)}
region = {role.region}
"""


def _by_login(place: Place, name: str, region: str) -> str:
    return f"""\
# Without SSO: aws login --profile {name}
# There account and role are chosen in the browser. One such profile holds one role at a time.
[profile {name}]
region = {region}
services = {place.session}
"""


def _onwards(place: Place, name: str) -> str:
    return f"""\
# On into another role: a profile of your own, outside the marks. It needs its own line "services".
#   [profile audit]
#   role_arn = arn:aws:iam::444455556666:role/audit
#   source_profile = {name}
#   services = {place.session}
"""


def process_line(place: Place, account: str, role_name: str, curlrc: str) -> str:
    """A command that clients run without a shell: nothing in it is expanded, and quotes hold the path and the query."""
    path = curlrc.replace("\\", "/")
    file = f'"{path}"' if " " in path else path
    return f'curl -K {file} "{process_url(place, account, role_name)}"'


def process_url(place: Place, account: str, role_name: str) -> str:
    return f"{place.origin}/api/process?{_which(account, role_name)}"


def container_url(place: Place, account: str, role_name: str) -> str:
    return f"{place.origin}/api/container?{_which(account, role_name)}"


def _which(account: str, role_name: str) -> str:
    return urlencode({"account": account, "role": role_name}, quote_via=quote)


# --- Into a file that is already there


@dataclass(frozen=True, slots=True)
class Merged:
    """What a person's own file would become. text: "" when it must not be done; then `obstacles` say why.

    changes: a unified diff. remarks: what works otherwise than one would think, though nothing breaks.
    """

    text: str
    changes: tuple[str, ...]
    obstacles: tuple[str, ...]
    remarks: tuple[str, ...]


def readable(own: str) -> str:
    """Somebody's own file as it was pasted, with plain line ends. Raises BadInput when it is too long or holds keys."""
    if len(own) > MOST_MERGED:
        raise BadInput(f"That is longer than {MOST_MERGED:,} characters.")
    if _KEYS.search(own):
        raise BadInput(
            "There are keys in it, which nobody but you should see. Take out the lines with aws_secret_access_key and "
            "aws_session_token, and think of those keys as shown to somebody."
        )
    return "\n".join(own.splitlines()) + "\n" if own.strip() else ""


def merge(existing: str, generated: str) -> Merged:
    """Put the generated text where an older one of the same Daypass stands, or at the end; nothing else changes.

    A name that is in both files is an obstacle: clients would read the two sections as one.
    """
    new = generated.splitlines()
    begin, end = new[0], new[-1]
    old = existing.splitlines()
    begins = [n for n, line in enumerate(old) if line.strip() == begin]
    ends = [n for n, line in enumerate(old) if line.strip() == end]
    obstacles: list[str] = []
    before, after = old, list[str]()
    if begins or ends:
        if len(begins) == len(ends) == 1 and begins[0] < ends[0]:
            before, after = old[: begins[0]], old[ends[0] + 1 :]
        else:
            obstacles.append(
                f"The marks “{begin}” and “{end}” are not there as one pair. Take out what an older run left, with its "
                "marks."
            )
    own = before + after
    generated_sections = {_section(line) for line in new} - {""}
    obstacles += [
        f"Your file has [{name}] already. Rename yours, or choose other names for the profiles of Daypass."
        for name in dict.fromkeys(_section(line) for line in own)
        if name in generated_sections
    ]
    if obstacles:
        return Merged("", (), tuple(obstacles), ())
    gap = [""] if before and before[-1].strip() and not after else []
    merged = [*before, *gap, *new, *after]
    changes = difflib.unified_diff(old, merged, "~/.aws/config", "with Daypass", lineterm="", n=2)
    return Merged("\n".join(merged) + "\n", tuple(changes), (), tuple(_remarks(own, after)))


def _section(line: str) -> str:
    """The name in a line that begins a section, with single blanks and without quotes; "" for other lines."""
    found = re.match(r"\s*\[([^\]]*)\]", line)
    return " ".join(found[1].replace('"', " ").replace("'", " ").split()) if found else ""


def _remarks(own: Sequence[str], after: Sequence[str]) -> Iterable[str]:
    section = ""
    for line in own:
        section = _section(line) or section
        name, _, value = (part.strip() for part in line.partition("="))
        if section == "default" and name == "services":
            yield (
                f"[default] has services = {value}: commands without --profile ask there. Daypass leaves it as it is."
            )
    loose = next(
        (line for line in after if line.strip() and not line.lstrip().startswith(("#", ";"))), ""
    )
    if loose and not _section(loose):
        yield f"“{loose.strip()}” stands after the end mark without a section: clients count it to the last profile."


MERGE_SCRIPT = """\
#!/bin/sh
# Puts what Daypass generated into your own ~/.aws/config, in place of an older one. It shows what would change;
# with --write it does it, and keeps the file as it was beside it. It stops if a name is in both files.
#   sh daypass-merge.sh ~/.aws/daypass.config [--write]
set -eu
umask 077
new=${1:?the generated file}
own=${AWS_CONFIG_FILE:-$HOME/.aws/config}
mkdir -p "$(dirname "$own")"
[ -e "$own" ] || : > "$own"
work=$(mktemp)
trap 'rm -f "$work"' EXIT
awk '
  function section(line) {
    if (line !~ /^[ \\t]*\\[/) return ""
    sub(/^[ \\t]*\\[/, "", line); sub(/\\].*/, "", line)
    gsub(/["\\047 \\t\\r]+/, " ", line); sub(/^ /, "", line); sub(/ $/, "", line)
    return line
  }
  function stop(why) { print "daypass-merge: " why > "/dev/stderr"; failed = 1; exit 1 }
  { line = $0; sub(/\\r$/, "", line) }
  reading == "" || FILENAME != reading { reading = FILENAME; file++ }
  file == 1 { if (FNR == 1) first = line; last = text[++lines] = line }
  file == 1 { if (section(line) != "") ours[section(line)] = 1; next }
  line == first { if (placed) stop("the begin mark is there twice"); inside = placed = 1
    for (n = 1; n <= lines; n++) print text[n]; next }
  line == last { if (!inside) stop("an end mark without its begin"); inside = 0; next }
  inside { next }
  section(line) in ours { stop("[" section(line) "] is in your own file as well: rename it, or choose other names") }
  { print; some = 1; blank = (line == "") }
  END {
    if (failed) exit 1
    if (inside) stop("the end mark is missing")
    if (!placed) { if (some && !blank) print ""; for (n = 1; n <= lines; n++) print text[n] }
  }
' "$new" "$own" > "$work"
diff -u "$own" "$work" && { echo "Nothing changes."; exit 0; }
if [ "${2:-}" = --write ]; then
  cp -p "$own" "$own.before-daypass"
  cat "$work" > "$own"
  echo "Written to $own; as it was: $own.before-daypass"
else
  echo "Nothing is written yet. To write it, add --write."
fi
"""
"""A shell script that does what `merge` does, on the person's own computer: their file is nobody else's business."""


# --- Fetching it


def fetch_lines(place: Place, address: str) -> str:
    """Shell lines that fetch the file with a script token, into a file of its own. address: path and query."""
    return (
        "mkdir -p ~/.config/daypass ~/.aws\n"
        "(umask 077; cat > ~/.config/daypass/curlrc) <<'END'\n"
        'header = "Authorization: Bearer THE-TOKEN"\n'
        "silent\nshow-error\nfail\nmax-time = 20\n"
        "END\n"
        f"curl -K ~/.config/daypass/curlrc -o ~/.aws/daypass.config '{place.origin}{address}'"
    )


def own_file_lines(name: str) -> str:
    """Shell lines that use the file beside the person's own, which is not touched."""
    return (
        "export AWS_CONFIG_FILE=~/.aws/daypass.config\n"
        '# PowerShell: $env:AWS_CONFIG_FILE = "$HOME\\.aws\\daypass.config"\n'
        f"aws sso login --profile {name}\n"
        f"aws sts get-caller-identity --profile {name}"
    )


# --- A line for each client


@dataclass(frozen=True, slots=True)
class Guide:
    """How one client is told to ask Daypass. text: to be copied; filename: "" when it is no file."""

    id: str
    title: str
    hint: str
    text: str
    filename: str = ""


def guides(place: Place, name: str, role: ProfileRole | None) -> tuple[Guide, ...]:
    """The lines for every client, with the profile `name` of `role` as the example."""
    account = role.account_id if role else "111122223333"
    role_name = role.role_name if role else "Developer"
    region = role.region if role else "us-east-1"
    curlrc = "/home/you/.config/daypass/curlrc"
    models = _models(place)
    return (
        Guide(
            "cli",
            "AWS CLI",
            "Version 2.13 or newer. Sign in once; every profile of this session works then, and refreshes itself.",
            f"aws sso login --profile {name}\n"
            f"aws sts get-caller-identity --profile {name}\n"
            f"export AWS_PROFILE={name}     # so that no command needs --profile\n"
            f"aws sso logout --profile {name}",
        ),
        Guide(
            "login",
            "aws login",
            "AWS CLI 2.32 or newer, without SSO: account and role are chosen in the browser. With --remote a code is "
            "pasted instead, for computers without a browser.",
            f"aws login --profile aws-login.{place.session}\n"
            f"aws sts get-caller-identity --profile aws-login.{place.session}",
        ),
        Guide(
            "python",
            "Python",
            "boto3 1.28 or newer. It has no sign-in of its own: aws sso login comes first.",
            f'import boto3\n\nsession = boto3.Session(profile_name="{name}")\n'
            'print(session.client("sts").get_caller_identity()["Arn"])',
        ),
        Guide(
            "javascript",
            "JavaScript",
            "AWS SDK v3, 3.385 or newer. Name the profile by AWS_PROFILE: one that is named in code only loses its "
            "line “services”.",
            f"AWS_PROFILE={name} node app.js",
        ),
        Guide(
            "go",
            "Go",
            "AWS SDK v2 of 2024 or newer. AWS_PROFILE does as well.",
            f'cfg, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile("{name}"))',
        ),
        Guide(
            "ruby",
            "Ruby",
            "aws-sdk-core 3.212 or newer. Name the profile by AWS_PROFILE: one that is named in code only loses its "
            "line “services”.",
            f"AWS_PROFILE={name} ruby app.rb",
        ),
        Guide(
            "rust",
            "Rust",
            "It does not refresh the sign-in: when it ends, aws sso login is due again.",
            f"AWS_PROFILE={name} cargo run",
        ),
        Guide(
            "java",
            "Java",
            "AWS SDK v2, 2.28.1 or newer. The two addresses are given beside the profile.",
            f"export AWS_ENDPOINT_URL_SSO={place.endpoint}\n"
            f"export AWS_ENDPOINT_URL_SSO_OIDC={place.endpoint}\n"
            f"AWS_PROFILE={name} java -jar app.jar",
        ),
        Guide(
            "terraform",
            "Terraform",
            "The profile brings its addresses with it; endpoints {} in the provider is not needed.",
            f'provider "aws" {{\n  profile = "{name}"\n  region  = "{region}"\n}}',
        ),
        Guide(
            "docker",
            "Docker",
            "With the sign-in of this computer; the folder may not be read-only, because sign-ins are refreshed in it.",
            f"docker run --rm -v ~/.aws:/root/.aws -e AWS_PROFILE={name} amazon/aws-cli sts get-caller-identity",
        ),
        Guide(
            "vscode",
            "VS Code",
            "For tools that take their profile from the environment: start the editor with it. Tools that know neither "
            "SSO nor other addresses take the profiles of “Scripts and CI”.",
            f"AWS_PROFILE={name} code .",
        ),
        Guide(
            "scripts",
            "Scripts and CI",
            "Without a browser, by a script token that you make on this page. In curlrc the token is one line of a "
            "file that only you can read; the profile is for every AWS client there is.",
            "# ~/.config/daypass/curlrc (chmod 600)\n"
            'header = "Authorization: Bearer THE-TOKEN"\n'
            "silent\nshow-error\nfail\nmax-time = 20\n\n"
            "# ~/.aws/config\n"
            f"[profile {name}.script]\n"
            f"credential_process = {process_line(place, account, role_name, curlrc)}\n"
            f"region = {region}",
        ),
        Guide(
            "containers",
            "Containers",
            "For containers and jobs, by a script token. Profiles and keys come first for clients, so leave "
            "AWS_PROFILE unset.",
            f"export AWS_CONTAINER_CREDENTIALS_FULL_URI='{container_url(place, account, role_name)}'\n"
            "export AWS_CONTAINER_AUTHORIZATION_TOKEN='Bearer THE-TOKEN'",
        ),
        Guide(
            "chaining",
            "Another role",
            "From a role of Daypass on into another one. The line “services” has to be there, too: it counts in the "
            "profile that is used and in no other.",
            f"[profile audit]\nrole_arn = arn:aws:iam::444455556666:role/audit\nsource_profile = {name}\n"
            f"services = {place.session}\nregion = {region}",
        ),
        Guide(
            "environment",
            "Environment",
            "Instead of the lines “services”, for one shell. A real Identity Center in the same shell is sent here, "
            "too.",
            f"export AWS_ENDPOINT_URL_SSO={place.endpoint}\n"
            f"export AWS_ENDPOINT_URL_SSO_OIDC={place.endpoint}\n"
            f"export AWS_ENDPOINT_URL_SIGNIN={place.endpoint}",
        ),
        Guide(
            "older",
            "Older AWS CLI",
            "Versions before 2.13, such as Debian 12's, know no other address than AWS's. This gives them one, for "
            "every SSO session of yours: a real Identity Center is cut off until the two files are gone.",
            models,
        ),
    )


_RULES = (
    '{"version":"1.0","parameters":{"Region":{"builtIn":"AWS::Region","required":false,"type":"String"},'
    '"UseDualStack":{"builtIn":"AWS::UseDualStack","required":true,"default":false,"type":"Boolean"},'
    '"UseFIPS":{"builtIn":"AWS::UseFIPS","required":true,"default":false,"type":"Boolean"},'
    '"Endpoint":{"builtIn":"SDK::Endpoint","required":false,"type":"String"}},'
    '"rules":[{"conditions":[],"type":"endpoint","endpoint":{"url":"ENDPOINT","properties":{},"headers":{}}}]}'
)


def _models(place: Place) -> str:
    """A shell's lines that replace the endpoint rules of botocore in the person's own folder of models."""
    return (
        "for service in sso sso-oidc; do\n"
        "  mkdir -p ~/.aws/models/$service/2019-06-10\n"
        "  cat > ~/.aws/models/$service/2019-06-10/endpoint-rule-set-1.json <<'END'\n"
        f"{_RULES.replace('ENDPOINT', place.endpoint)}\n"
        "END\ndone"
    )
