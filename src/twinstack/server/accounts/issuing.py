"""`serviceaccounts/token`: tokens on request (authentication.k8s.io/v1 TokenRequest, KEP-1205)."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.decoding import decode_object
from twinstack.api.errors import FieldError, bad_request, conflict, invalid, invalid_object, not_found
from twinstack.api.resources import Resource
from twinstack.server.accounts.claims import NODES, PODS, SECRETS, Binding, Ref, bound_claims
from twinstack.server.accounts.flags import Terms
from twinstack.server.accounts.keys import AccountKeys
from twinstack.server.messages import Answer, Request, Response, Route, UserInfo
from twinstack.server.nodes.restriction import check_token_request
from twinstack.server.options import write_options
from twinstack.server.registry import Registry
from twinstack.server.subresources import shape_of
from twinstack.server.uuids import random_uuid

JSON = dict[str, Any]

GROUP = "authentication.k8s.io"
_KIND = "TokenRequest"
_DEFAULT_SECONDS = 3600
_SHORTEST = 600
_LONGEST = 1 << 32
_WARN_ONLY = 3607  # what the ServiceAccount plugin asks for: its tokens may be used for longer, with a warning
_EXTENDED = 365 * 24 * 3600


class TokenRequests:
    """Answers requests for tokens; nothing is stored. Raises StatusError."""

    def __init__(self, registry: Registry, keys: AccountKeys, terms: Terms) -> None:
        self._registry = registry
        self._keys = keys
        self._terms = terms

    async def handle(self, request: Request, route: Route) -> Answer:
        options = write_options(request, "CreateOptions")
        content_type = request.headers.get("content-type", "")
        body, warnings = decode_object(request.body, content_type, shape_of(route).body, options.field_validation)
        answer, more = self.issue(route, body, request.user)
        return Response(status=201, body=msgspec.json.encode(answer), warnings=[*warnings, *more])

    def issue(self, route: Route, body: JSON, user: UserInfo) -> tuple[JSON, list[str]]:
        """The answer to a request, and warnings. Raises StatusError."""
        meta: JSON = body.get("metadata") or {}
        for field, what in (("name", route.name), ("namespace", route.namespace)):
            if meta.get(field, "") not in ("", what):
                detail = f"must match the service account {field} if specified"
                raise invalid_object(_KIND, route.name, [invalid(f"metadata.{field}", meta[field], detail)], GROUP)
        account = self._reader_get(route.resource, route.namespace, route.name)
        spec: JSON = body.get("spec") or {}
        audiences = spec.get("audiences") or list(self._keys.audiences)
        seconds = spec.get("expirationSeconds")
        seconds = _DEFAULT_SECONDS if seconds is None else seconds
        errors = _expiration_errors(seconds)
        if errors:
            raise invalid_object(_KIND, "", errors, GROUP)
        ref: JSON | None = spec.get("boundObjectRef")
        check_token_request(self._registry.reader, user, route, ref, spec.get("audiences") or [])
        binding = self._bind(route, ref) if ref else Binding()
        warnings = []
        if 0 < self._terms.longest < seconds:
            warnings = [f"requested expiration of {seconds} seconds shortened to {self._terms.longest} seconds"]
            seconds = self._terms.longest
        extended = (
            self._terms.extend
            and binding.pod is not None
            and seconds == _WARN_ONLY
            and set(audiences) <= set(self._keys.audiences)
        )
        now = int(time.time())
        claims = bound_claims(
            self._keys.issuer,
            route.namespace,
            _ref(account),
            audiences,
            binding=binding,
            token_id=random_uuid(),
            now=now,
            seconds=_EXTENDED if extended else seconds,
            warn_after=seconds if extended else 0,
        )
        status = {"token": self._keys.signer.sign(claims), "expirationTimestamp": times.format_time(now + seconds)}
        answer = {
            "kind": _KIND,
            "apiVersion": f"{GROUP}/v1",
            "metadata": {
                "name": route.name,
                "namespace": route.namespace,
                "creationTimestamp": times.format_time(now),
            },
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": ref},
            "status": status,
        }
        return answer, warnings

    def _bind(self, route: Route, ref: JSON) -> Binding:
        """What the token is to be bound to, as it is stored. Raises StatusError 400, 404, 409."""
        version, kind, name = ref.get("apiVersion", ""), ref.get("kind", ""), ref.get("name", "")
        group, _, short = version.rpartition("/")
        if group or kind not in ("Pod", "Secret", "Node"):
            raise bad_request(f"cannot bind token to object of type {group}/{short}, Kind={kind}")
        if kind == "Pod":
            found = self._reader_get(PODS, route.namespace, name)
            if found["spec"].get("serviceAccountName", "") != route.name:
                raise bad_request(
                    f'cannot bind token for serviceaccount "{route.name}" to pod running with different '
                    "serviceaccount name."
                )
            binding = Binding(pod=_ref(found), node=self._node_of(found))
        elif kind == "Secret":
            found = self._reader_get(SECRETS, route.namespace, name)
            binding = Binding(secret=_ref(found))
        else:
            found = self._reader_get(NODES, "", name)
            binding = Binding(node=_ref(found))
        uid, wanted = found["metadata"]["uid"], ref.get("uid", "")
        if wanted and wanted != uid:
            raise conflict(
                kind,
                name,
                f"the UID in the bound object reference ({wanted}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )
        return binding

    def _node_of(self, pod: JSON) -> Ref | None:
        """The pod's node; without a uid when there is no such Node."""
        name = pod["spec"].get("nodeName", "")
        if not name:
            return None
        node = self._registry.reader.get(NODES, "", name)
        return _ref(node) if node is not None else Ref(name)

    def _reader_get(self, row: Resource, namespace: str, name: str) -> JSON:
        found = self._registry.reader.get(row, namespace, name)
        if found is None:
            raise not_found(row.plural, name)
        return found


def _ref(obj: JSON) -> Ref:
    return Ref(obj["metadata"]["name"], obj["metadata"]["uid"])


def _expiration_errors(seconds: int) -> list[FieldError]:
    field = "spec.expirationSeconds"
    if seconds < _SHORTEST:
        return [invalid(field, seconds, "may not specify a duration less than 10 minutes")]
    if seconds > _LONGEST:
        return [invalid(field, seconds, "may not specify a duration larger than 2^32 seconds")]
    return []
