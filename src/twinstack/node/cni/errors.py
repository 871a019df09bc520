"""The error object of the CNI specification 1.1 and its codes."""

from __future__ import annotations

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
UNDECODABLE = 6
INVALID_CONFIGURATION = 7
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50  # of STATUS

# Codes from 100 on are a plugin's own.
NO_FREE_ADDRESS = 100
ALREADY_ADDED = 101
NOT_AS_ADDED = 102  # of CHECK


class CniError(Exception):
    """What a plugin answers instead of a result."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(f"{message}: {details}" if details else message)
        self.code = code
        self.message = message
        self.details = details
