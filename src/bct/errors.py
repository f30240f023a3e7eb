"""Every error bct raises on purpose, and what to do about each.

Foreign exceptions (a library's, the operating system's) are translated into one of these once, at the border where
they arise. The text is a whole sentence with the numbers in it; ``exit_code`` is what the command line ends with.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import ClassVar


class Action(Enum):
    """What the node does with the peer that caused a `RemoteProtocolError`."""

    REFUSE = "refuse"  # answer with the reason; the connection and the payment channel go on
    CLOSE = "close"  # the payment channel is settled; the connection may go on without payments
    DISCONNECT = "disconnect"  # end the connection
    BAN = "ban"  # end it and do not come back: the peer lied about something that can be proven


class BctError(Exception):
    """Root of all of them."""

    exit_code: ClassVar[int] = 1

    @classmethod
    def word(cls) -> str:
        """The fixed word of this kind of error, for programs: "wallet-locked" of WalletLockedError."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__.removesuffix("Error")).lower()


class LocalProtocolError(BctError):
    """We asked a machine of ours for a move its table does not have: a bug of ours, never a peer's doing."""


class RemoteProtocolError(BctError):
    """A peer broke the protocol. The only error a parser of a stranger's bytes may raise.

    reason: one fixed word, stable enough for the wire, logs and metrics. text: the sentence with the numbers.
    """

    def __init__(self, reason: str, text: str, action: Action = Action.DISCONNECT) -> None:
        super().__init__(text)
        self.reason = reason
        self.action = action


class ChainError(BctError):
    """The chain could not be asked, or answered something that cannot be so."""

    exit_code = 69


class StoreError(BctError):
    """The disk refused: full, read-only, or what was read back is not what was written."""


class MediaError(BctError):
    """A file is not a video that can be published; the text says why and what would help."""


class ConfigError(BctError):
    """A setting, an argument or a file given by the user cannot be used."""

    exit_code = 2


class NotRunningError(BctError):
    """The command needs the running node, and none answers."""

    exit_code = 3


class AuthError(BctError):
    """The caller showed no, or the wrong, credentials."""

    exit_code = 4


class WalletLockedError(BctError):
    """The wallet is encrypted and its passphrase was not given."""

    exit_code = 5


class FundsError(BctError):
    """The wallet does not hold enough, or the spending cap would be passed."""

    exit_code = 6


class TemporaryError(BctError):
    """Try again later: what is missing is expected back."""

    exit_code = 75
