"""`tokenreviews`: whom a token stands for (authentication.k8s.io/v1 TokenReview). Nothing is stored."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.decoding import decode_object
from twinstack.api.errors import bad_request
from twinstack.server import routing
from twinstack.server.authentication import Authenticator, InvalidToken
from twinstack.server.handlers.reading import answer
from twinstack.server.messages import Answer, Request, Route
from twinstack.server.options import write_options
from twinstack.server.representation import choose
from twinstack.server.versions import view_of

JSON = dict[str, Any]


class TokenReviews:
    """Raises StatusError."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(self, request: Request, route: Route) -> Answer:
        routing.verb_of(request, route)
        representation = choose(request, view_of(route.resource), single=True)
        options = write_options(request, "CreateOptions")
        content_type = request.headers.get("content-type", "")
        body, warnings = decode_object(request.body, content_type, route.resource, options.field_validation)
        review = msgspec.json.encode(self._review(route, body))
        response = answer([review], representation, 201)
        response.warnings = warnings
        return response

    def _review(self, route: Route, body: JSON) -> JSON:
        spec: JSON = body.get("spec") or {}
        token = spec.get("token") or ""
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        status: JSON
        try:
            known = self._authenticator.token_user(token, spec.get("audiences") or ())
            status = {"authenticated": True, "user": known.user.as_json()}
            if known.audiences:
                status["audiences"] = list(known.audiences)
        except InvalidToken as error:
            status = {"user": {}, "error": str(error)}
        row = route.resource
        meta = (body.get("metadata") or {}) | {"creationTimestamp": times.now()}
        return {"kind": row.kind, "apiVersion": row.group_version, "metadata": meta, "spec": spec, "status": status}
