"""Northwind, a company that does not exist: its people, its AWS accounts, and who may do what in them."""

from __future__ import annotations

from dataclasses import dataclass

# Everybody's, and printed at every start: these people are not real.
PASSWORD = "open sesame"  # noqa: S105

STAFF = "northwind"
CONTRACTORS = "contractors"
PROVIDERS = {STAFF: "Northwind staff", CONTRACTORS: "Northwind contractors"}


@dataclass(frozen=True, slots=True)
class CastMember:
    """One person as the identity provider knows them. part: their role in the play, in a few words."""

    subject: str
    login: str
    name: str
    email: str
    provider: str
    groups: tuple[str, ...]
    department: str
    cost_centre: str
    part: str

    @property
    def provider_name(self) -> str:
        return PROVIDERS[self.provider]


CAST = (
    CastMember(
        subject="nw-1001",
        login="maya",
        name="Maya Lindqvist",
        email="maya.lindqvist@northwind.example",
        provider=STAFF,
        groups=("engineering", "platform-oncall"),
        department="Platform",
        cost_centre="4711",
        part="engineer on call, a dozen roles",
    ),
    CastMember(
        subject="nw-1002",
        login="omar",
        name="Omar Haddad",
        email="omar.haddad@northwind.example",
        provider=STAFF,
        groups=("cloud-administrators", "security"),
        department="Cloud",
        cost_centre="4700",
        part="administrator of Daypass",
    ),
    CastMember(
        subject="nw-1003",
        login="zoe",
        name="Zoë Ångström-Núñez",
        email="zoe.angstrom@northwind.example",
        provider=STAFF,
        groups=("Données & Analyse <EU>",),
        department="Données et Analyse",
        cost_centre="5200",
        part="data scientist, keys only",
    ),
    CastMember(
        subject="nw-1004",
        login="sam",
        name="Sam Okafor",
        email="sam.okafor@northwind.example",
        provider=STAFF,
        groups=("engineering", "cloud-operations"),
        department="Operations",
        cost_centre="4720",
        part="operator of everything, 2,000 roles",
    ),
    CastMember(
        subject="nw-1005",
        login="nina",
        name="Nina Petrova",
        email="nina.petrova@northwind.example",
        provider=STAFF,
        groups=("facilities",),
        department="Facilities",
        cost_centre="8100",
        part="no role at all",
    ),
    CastMember(
        subject="ext-2001",
        login="carlos",
        name="Carlos Mendes",
        email="carlos@mendes-consulting.example",
        provider=CONTRACTORS,
        groups=("contractors", "payments-reviewers"),
        department="External",
        cost_centre="9000",
        part="one role, console only, second factor needed",
    ),
    CastMember(
        subject="ext-2002",
        login="aiko",
        name="Aiko Tanaka",
        email="aiko@tanaka-studio.example",
        provider=CONTRACTORS,
        groups=("contractors", "web-shop-developers"),
        department="External",
        cost_centre="9000",
        part="developer of the web shop, kept out of production",
    ),
)

# Which directory group may use the admin.
STAFF_GROUP = (STAFF, "cloud-administrators")


@dataclass(frozen=True, slots=True)
class CastEnvironment:
    name: str
    colour: str
    production: bool = False


ENVIRONMENTS = (
    CastEnvironment("Production", "red", production=True),
    CastEnvironment("Staging", "amber"),
    CastEnvironment("Development", "green"),
    CastEnvironment("Shared", "violet"),
    CastEnvironment("Sandbox", "blue"),
)


@dataclass(frozen=True, slots=True)
class CastRole:
    name: str
    description: str
    trust: str = "web_identity"
    console: str = "federation"
    max_seconds: int = 3600
    path: str = "/"
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class CastAccount:
    account_id: str
    name: str
    alias: str
    environment: str
    region: str
    roles: tuple[CastRole, ...]


_READ = CastRole("ReadOnly", "Look at everything, change nothing", max_seconds=43200)
_DEVELOP = CastRole("Developer", "Deploy and debug the team's services", max_seconds=28800)
_ON_CALL = CastRole(
    "OnCall",
    "Repair production while on call",
    max_seconds=14400,
    path="/operations/",
    sensitive=True,
)

ACCOUNTS = (
    CastAccount(
        "210000000101",
        "Payments production",
        "northwind-payments",
        "Production",
        "eu-west-1",
        (
            _READ,
            _ON_CALL,
            CastRole(
                "CardDataReviewer",
                "Review of card data handling (PCI)",
                trust="saml",
                sensitive=True,
            ),
        ),
    ),
    CastAccount(
        "210000000102",
        "Payments staging",
        "northwind-payments-staging",
        "Staging",
        "eu-west-1",
        (_READ, _DEVELOP),
    ),
    CastAccount(
        "210000000201",
        "Web shop production",
        "northwind-shop",
        "Production",
        "eu-central-1",
        (_READ, _ON_CALL),
    ),
    CastAccount(
        "210000000202",
        "Web shop staging",
        "northwind-shop-staging",
        "Staging",
        "eu-central-1",
        (_READ, _DEVELOP),
    ),
    CastAccount(
        "210000000203",
        "Web shop development",
        "northwind-shop-dev",
        "Development",
        "eu-central-1",
        (
            _DEVELOP,
            CastRole(
                "Administrator", "Everything, for experiments", trust="saml", console="saml_form"
            ),
        ),
    ),
    CastAccount(
        "210000000301",
        "Data lake",
        "northwind-data",
        "Production",
        "eu-west-1",
        (
            _READ,
            CastRole("DataScientist", "Query and train on curated data", max_seconds=28800),
        ),
    ),
    CastAccount(
        "210000000401",
        "Network hub",
        "northwind-network",
        "Shared",
        "eu-west-1",
        (_READ, CastRole("NetworkEngineer", "Transit gateways, DNS, firewalls", sensitive=True)),
    ),
    CastAccount(
        "210000000402",
        "Security tooling",
        "northwind-security",
        "Shared",
        "eu-west-1",
        (_READ, CastRole("SecurityAuditor", "Read findings and trails of every account")),
    ),
    CastAccount(
        "210000000501",
        "Sandbox",
        "northwind-sandbox",
        "Sandbox",
        "eu-west-1",
        (CastRole("Administrator", "Yours to break; emptied every night", max_seconds=28800),),
    ),
)

_REGIONS = ("eu-west-1", "eu-central-1", "us-east-1", "ap-southeast-2")
_FLEET_ROLES = (
    ("ReadOnly", "Look at everything, change nothing"),
    ("Operator", "Restart, scale, drain"),
    ("PatchManager", "Install what the patch window allows"),
    ("BackupOperator", "Take and restore backups"),
    ("LogReader", "Read logs and metrics"),
    ("CostAnalyst", "See what it costs"),
    ("NetworkReader", "See routes and firewalls"),
    ("IncidentResponder", "Isolate and preserve"),
    ("Deployer", "Roll releases out and back"),
    ("DatabaseOperator", "Fail over and vacuum"),
)


def fleet() -> tuple[CastAccount, ...]:
    """200 customer accounts with 10 roles each: what a person with 2,000 roles sees."""
    return tuple(
        CastAccount(
            f"3100{number:08d}",
            f"Fleet {number:03d} {'production' if number % 2 else 'staging'}",
            f"northwind-fleet-{number:03d}",
            "Production" if number % 2 else "Staging",
            _REGIONS[number % len(_REGIONS)],
            tuple(CastRole(name, description) for name, description in _FLEET_ROLES),
        )
        for number in range(1, 201)
    )


@dataclass(frozen=True, slots=True)
class CastMapping:
    """provider and group -> roles written as "account alias/role name"."""

    provider: str
    group: str
    note: str
    roles: tuple[str, ...]
    max_seconds: int | None = None
    allow_console: bool = True
    allow_keys: bool = True
    require_mfa: bool = False
    max_sign_in_age: int | None = None
    session_policy: str = ""
    session_tags: tuple[tuple[str, str], ...] = ()


MAPPINGS = (
    CastMapping(
        STAFF,
        "engineering",
        "Engineers read everywhere",
        (
            "northwind-payments/ReadOnly",
            "northwind-payments-staging/ReadOnly",
            "northwind-shop/ReadOnly",
            "northwind-shop-staging/ReadOnly",
            "northwind-network/ReadOnly",
        ),
        max_seconds=14400,
        session_tags=(("Department", "department"), ("CostCentre", "cost_centre")),
    ),
    CastMapping(
        STAFF,
        "engineering",
        "Engineers build outside production",
        (
            "northwind-payments-staging/Developer",
            "northwind-shop-staging/Developer",
            "northwind-shop-dev/Developer",
            "northwind-shop-dev/Administrator",
            "northwind-sandbox/Administrator",
        ),
        max_seconds=28800,
        session_tags=(("Department", "department"),),
    ),
    CastMapping(
        STAFF,
        "platform-oncall",
        "On call: with a second factor and a fresh sign-in, for an hour",
        ("northwind-payments/OnCall", "northwind-shop/OnCall"),
        max_seconds=3600,
        require_mfa=True,
        max_sign_in_age=3600,
    ),
    CastMapping(
        STAFF,
        "security",
        "Security reads findings everywhere",
        (
            "northwind-security/SecurityAuditor",
            "northwind-security/ReadOnly",
            "northwind-payments/CardDataReviewer",
        ),
        max_seconds=3600,
    ),
    CastMapping(
        STAFF,
        "Données & Analyse <EU>",
        "Data scientists work from notebooks, not in the console",
        ("northwind-data/DataScientist",),
        allow_console=False,
        max_seconds=28800,
        session_policy=(
            '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*",'
            '"athena:*","glue:Get*"],"Resource":"*"}]}'
        ),
        session_tags=(("Department", "department"),),
    ),
    CastMapping(
        CONTRACTORS,
        "payments-reviewers",
        "The external review of payments, in the console only",
        ("northwind-payments/ReadOnly",),
        max_seconds=3600,
        allow_keys=False,
        require_mfa=True,
    ),
    CastMapping(
        CONTRACTORS,
        "web-shop-developers",
        "Contractors build the web shop",
        (
            "northwind-shop-staging/Developer",
            "northwind-shop-dev/Developer",
            "northwind-shop/ReadOnly",
        ),
        max_seconds=7200,
    ),
)

FLEET_MAPPING = (STAFF, "cloud-operations", "Operations run the fleet")


@dataclass(frozen=True, slots=True)
class CastDeny:
    provider: str
    group: str
    account: str
    reason: str


DENIES = (
    CastDeny(
        CONTRACTORS,
        "web-shop-developers",
        "northwind-shop",
        "Contractors who build the web shop stay out of its production account.",
    ),
)
