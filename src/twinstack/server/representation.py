"""Which form and media type a client accepts (api conventions, "receiving resources as Tables"). Pure."""

from __future__ import annotations

from typing import NamedTuple

from twinstack.api.errors import StatusError
from twinstack.server.accept import MediaType, media_types
from twinstack.server.forms import Form, Partial, Table, Whole
from twinstack.server.messages import Request
from twinstack.server.versions import View

JSON_TYPE = "application/json"
YAML_TYPE = "application/yaml"
_JSON_RANGES = ("*/*", "application/*", JSON_TYPE)
_KNOWN = (*_JSON_RANGES, YAML_TYPE, "application/vnd.kubernetes.protobuf")
_AVAILABLE = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


class Representation(NamedTuple):
    """How an answer is written: the form of its objects, as JSON or YAML."""

    form: Form
    yaml: bool


def choose(request: Request, view: View, *, single: bool) -> Representation:
    """What the first clause of Accept that can be served asks for.

    `single` is for one object, else a list or watch. Raises StatusError 406.
    """
    clauses = media_types(request.headers.get("accept", ""))
    for clause in clauses:
        if clause.type not in _JSON_RANGES and clause.type != YAML_TYPE:
            continue
        form = _form(clause, request, view, single=single)
        if form is not None:
            return Representation(form, clause.type == YAML_TYPE)
    if any(clause.type in _KNOWN for clause in clauses):
        raise not_acceptable(f"only the following media types are accepted: {_AVAILABLE}")
    raise not_acceptable(f"406: Not Acceptable\n\nAvailable representations: {_AVAILABLE}")


def not_acceptable(message: str) -> StatusError:
    return StatusError(406, "NotAcceptable", message)


def _form(clause: MediaType, request: Request, view: View, *, single: bool) -> Form | None:
    wanted = clause.parameters.get("as")
    if wanted is None:
        return Whole(view)
    if clause.parameters.get("g") != "meta.k8s.io" or clause.parameters.get("v") not in ("v1", "v1beta1"):
        return None
    version = clause.parameters["v"]
    if wanted == "Table":
        if "list" not in view.resource.verbs:  # questions, such as access reviews, have no columns
            return None
        return Table(view, version, request.parameter("includeObject") or "Metadata")
    is_watch = not single and request.parameter("watch") not in ("", "0", "false")
    if wanted == "PartialObjectMetadata":
        if not single and not is_watch:
            kind = f"*{_go_package(view)}.{view.resource.kind}List"
            raise not_acceptable(f"you requested PartialObjectMetadata, but the requested object is a list ({kind})")
        return Partial(version)
    if wanted == "PartialObjectMetadataList":
        if single:
            kind = f"*{_go_package(view)}.{view.resource.kind}"
            detail = f"you requested PartialObjectMetadataList, but the requested object is not a list ({kind})"
            raise not_acceptable(detail)
        return Partial(version)
    return None


def _go_package(view: View) -> str:
    """The package of upstream's internal type, which its message shows."""
    return view.resource.group.partition(".")[0] or "core"
