"""The only writer of terminals, their tokens and the codes that lead to them.

Of several who bring the same code or token at once one wins, by a conditional UPDATE; all state is in the database, so
neither a restart nor an emptied cache loses anything. The person behind a terminal is read anew at every use.
"""

from __future__ import annotations

from broker.awssso.services.common import Asker, NotAllowed
from broker.awssso.services.devices import (
    DeviceStarted,
    approve_device,
    deny_device,
    exchange_device_code,
    find_device,
    poll_device,
    room_for_device,
    start_device,
)
from broker.awssso.services.ending import (
    clear,
    disown,
    end,
    end_lines,
    end_some,
    expire_due,
    sign_out,
)
from broker.awssso.services.holding import Bearer, bearer
from broker.awssso.services.letting import LetIn, let_in
from broker.awssso.services.tokens import (
    Tokens,
    exchange_code,
    exchange_code_for_tokens,
    give_code,
    give_script_token,
    give_tokens,
    refresh,
)
from broker.awssso.wire import WireError

__all__ = [
    "Asker",
    "Bearer",
    "DeviceStarted",
    "LetIn",
    "NotAllowed",
    "Tokens",
    "WireError",
    "approve_device",
    "bearer",
    "clear",
    "deny_device",
    "disown",
    "end",
    "end_lines",
    "end_some",
    "exchange_code",
    "exchange_code_for_tokens",
    "exchange_device_code",
    "expire_due",
    "find_device",
    "give_code",
    "give_script_token",
    "give_tokens",
    "let_in",
    "poll_device",
    "refresh",
    "room_for_device",
    "sign_out",
    "start_device",
]
