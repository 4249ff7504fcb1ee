"""Settings of the demo company's identity providers. Their own database, cookies and keys."""

from __future__ import annotations

from broker.demo.stage import HERE, LOOPBACK, current_stage

STAGE = current_stage()
SECRET_KEY = STAGE.secrets["DEMO_IDP_SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = [LOOPBACK]
ROOT_URLCONF = "broker.demo.idp.urls"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "allauth",
    "allauth.account",
    "allauth.idp.oidc",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [HERE / "idp" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STAGE.idp_folder / "idp.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "account_login"
# Cookies know no ports: nothing here may be called like a cookie of Daypass.
SESSION_COOKIE_NAME = "northwind_idp_session"
CSRF_COOKIE_NAME = "northwind_idp_csrf"
SESSION_COOKIE_HTTPONLY = True

IDP_OIDC_ADAPTER = "broker.demo.idp.oidc.Adapter"
IDP_OIDC_PRIVATE_KEY = (STAGE.idp_folder / "key.pem").read_text(encoding="utf-8")
# Daypass shows the ID token that it signed somebody in with; that is question enough.
IDP_OIDC_RP_INITIATED_LOGOUT_ASKS_FOR_OP_LOGOUT = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
