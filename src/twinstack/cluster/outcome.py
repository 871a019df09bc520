"""What became of the last change of a cluster's configuration: a small file that `status` and `up` read."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from twinstack.cluster.state import ClusterPaths
from twinstack.pki.files import write_secret

DONE, ROLLING, REFUSED = "done", "rolling", "refused"


class Outcome(NamedTuple):
    """What became of the configuration object as of `version`, its resourceVersion."""

    state: str  # done, rolling, refused
    message: str
    version: str

    @classmethod
    def load(cls, own: ClusterPaths) -> Outcome:
        """The last one; done, of no version, when there is none."""
        try:
            found: dict[str, Any] = json.loads(own.rollout.read_text())
        except FileNotFoundError:
            return cls(DONE, "", "0")
        return cls(found["state"], found["message"], found["version"])

    def save(self, own: ClusterPaths) -> None:
        write_secret(own.rollout, json.dumps(self._asdict()).encode())
