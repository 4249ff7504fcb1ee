"""An index for Django: it finds the admin of every stage here. Imports only."""

import broker.minting.admin  # noqa: F401
