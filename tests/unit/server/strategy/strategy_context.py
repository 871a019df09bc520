"""What strategies are given in tests: a request by an administrator, on a store with two service accounts."""

from __future__ import annotations

import json
from typing import Any

from tests.service_server import MemoryStore

from twinstack.api.errors import StatusError
from twinstack.api.resources import Resource, resource
from twinstack.api.schema import check
from twinstack.ip import CIDR
from twinstack.server.messages import UserInfo
from twinstack.server.strategy.base import Change, ServerConfig, WriteContext
from twinstack.server.strategy.registry import strategy_for

JSON = dict[str, Any]

ACCOUNTS = resource("", "serviceaccounts")
NOW = "2026-01-01T00:00:00Z"


def context(row: Resource, *, disabled_plugins: frozenset[str] = frozenset()) -> WriteContext:
    config = ServerConfig(
        service_ranges=(CIDR.parse("10.96.0.0/16"),),
        node_ports=range(30000, 32768),
        secure_port=6443,
        disabled_admission_plugins=disabled_plugins,
    )
    namespace = "default" if row.namespaced else ""
    reader = MemoryStore()
    for name in ("default", "old"):
        account = {"metadata": {"name": name}, "automountServiceAccountToken": False}
        reader.records[ACCOUNTS.key("default", name)] = json.dumps(account).encode()
    return WriteContext(
        resource=row,
        namespace=namespace,
        name="a",
        user=UserInfo("admin"),
        config=config,
        reader=reader,
        now=NOW,
    )


def stored(row: Resource, obj: JSON) -> JSON:
    """The stored form, with the metadata that the verbs fill in."""
    meta = {"name": "a", "uid": "u", "resourceVersion": "1"} | ({"namespace": "default"} if row.namespaced else {})
    result, findings = check(
        {"metadata": meta | obj.get("metadata", {})} | {k: v for k, v in obj.items() if k != "metadata"}, row.schema
    )
    assert findings == []
    strategy_for(row).default(result)
    return result


def create(row: Resource, obj: JSON, **options: Any) -> Change:
    return strategy_for(row).create(context(row, **options), stored(row, obj))


def update(row: Resource, old: JSON, new: JSON, *, status: bool = False) -> Change:
    strategy = strategy_for(row)
    write = strategy.update_status if status else strategy.update
    return write(context(row), stored(row, new), old)


def refusal(row: Resource, obj: JSON, old: JSON | None = None, *, status: bool = False) -> list[str]:
    """The messages of a refused write, without repetitions; empty if it is accepted."""
    try:
        update(row, old, obj, status=status) if old is not None else create(row, obj)
    except StatusError as error:
        causes = (error.details or {}).get("causes") or [{"field": "", "message": error.message}]
        return list(dict.fromkeys(f"{cause['field']}: {cause['message']}" for cause in causes))
    return []
