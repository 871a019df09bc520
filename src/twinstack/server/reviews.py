"""Questions that are asked as objects: nothing is stored, the answer to the create is the object with its status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from twinstack.api.decoding import decode_object
from twinstack.api.errors import StatusError
from twinstack.server import routing
from twinstack.server.handlers.reading import answer
from twinstack.server.messages import Answer, Request, Route
from twinstack.server.options import WriteOptions, write_options
from twinstack.server.representation import choose
from twinstack.server.versions import view_of

JSON = dict[str, Any]


def answered(request: Request, route: Route, judge: Callable[[JSON, WriteOptions], JSON]) -> Answer:
    """`judge` gets the question, which it may change, and gives the answer without kind and version.

    Raises StatusError, with the warnings about the question.
    """
    routing.verb_of(request, route)
    row = route.resource
    representation = choose(request, view_of(row), single=True)
    options = write_options(request, "CreateOptions")
    content_type = request.headers.get("content-type", "")
    question, warnings = decode_object(request.body, content_type, row, options.field_validation)
    try:
        judged = judge(question, options)
    except StatusError as error:
        error.warnings[:0] = warnings
        raise
    document = {"kind": row.kind, "apiVersion": row.group_version} | judged
    response = answer([msgspec.json.encode(document)], representation, 201)
    response.warnings = warnings
    return response
