"""`tokenreviews`: whom a token stands for (authentication.k8s.io/v1 TokenReview). Nothing is stored."""

from __future__ import annotations

from typing import Any

from twinstack.api import times
from twinstack.api.errors import bad_request
from twinstack.server import reviews
from twinstack.server.authentication import Authenticator, InvalidToken
from twinstack.server.messages import Answer, Request, Route
from twinstack.server.options import WriteOptions

JSON = dict[str, Any]


class TokenReviews:
    """Raises StatusError."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(self, request: Request, route: Route) -> Answer:
        return reviews.answered(request, route, self._judge)

    def _judge(self, body: JSON, options: WriteOptions) -> JSON:
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
        meta = (body.get("metadata") or {}) | {"creationTimestamp": times.now()}
        return {"metadata": meta, "spec": spec, "status": status}
