"""The product's settings, except that a message whose worker died comes back after seconds: the test cannot wait."""

from broker.settings import *  # noqa: F403

CELERY_BROKER_TRANSPORT_OPTIONS = {
    **CELERY_BROKER_TRANSPORT_OPTIONS,  # noqa: F405
    "visibility_timeout": 4,
    "unacked_restore_interval": 1,
}
