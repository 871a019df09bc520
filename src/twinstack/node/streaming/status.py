"""How a remote command ended, as the last message of its error channel says (meta/v1 Status). Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

JSON = dict[str, Any]

SUCCESS: JSON = {"metadata": {}, "status": "Success"}


def of_exit(command: Sequence[str], code: int) -> JSON:
    """For a program that ran to its end, in kubelet's words."""
    if code == 0:
        return SUCCESS
    words = " ".join(command)
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: error executing command [{words}], exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def of_failure(message: str) -> JSON:
    """For one that could not be run, or attached to."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def encoded(status: JSON, version: int) -> bytes:
    """As version `version` of the channel protocol sends it: before the fourth only failures, in plain words."""
    if version >= 4:
        return json.dumps(status, separators=(",", ":"), ensure_ascii=False).encode()
    return b"" if status is SUCCESS else status["message"].encode()
