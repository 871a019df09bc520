"""A PUT or an apply that makes its object needs the right to create it, beside the one to update or patch."""

from __future__ import annotations

from twinstack.api.errors import forbidden, internal_error
from twinstack.server.admission import Attempt
from twinstack.server.authorization.decisions import Attributes, Authorizer


class CreateOnUpdate:
    """`admission.Check` of creations that are asked for by name, which a POST never is."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def __call__(self, attempt: Attempt) -> None:
        route = attempt.route
        if attempt.old is not None or attempt.new is None or not route.name:
            return
        row = route.resource
        question = Attributes(
            user=attempt.user,
            verb="create",
            group=row.group,
            version=row.version,
            resource=row.plural,
            namespace=route.namespace or (route.name if row.plural == "namespaces" else ""),
            name=route.name,
        )
        decision = self._authorizer.authorize(question)
        if decision.allowed:
            return
        if decision.error:
            raise internal_error(decision.error)
        raise forbidden(row.plural, route.name, decision.reason, row.group)
