"""Which APIs there are: discovery documents in both forms, built from the table of resources when it has changed.

Aggregated (apidiscovery.k8s.io, KEP-3352) at `/api` and `/apis` for clients that ask for it, the older forms
for others and for single groups and versions.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from twinstack.api.resources import RESOURCES, Resource, Subresource
from twinstack.server.accept import MediaType, media_types
from twinstack.server.conditional import is_known
from twinstack.server.customresources.catalogue import Catalogue, version_rank
from twinstack.server.messages import Request, Response

JSON = dict[str, Any]

_AGGREGATED = ("v2", "v2beta1")


class Discovery:
    """Answers for `/api`, `/api/v1`, `/apis`, `/apis/GROUP` and `/apis/GROUP/VERSION`.

    `address` is HOST:PORT for clients; resources keep the order of the table, which decides what an ambiguous
    short name means.
    """

    def __init__(self, address: str, catalogue: Catalogue | None = None) -> None:
        self._address = address
        self._catalogue = catalogue or Catalogue()
        self._built = -1  # the state of the catalogue that the documents show

    def _build(self) -> None:
        """Make the documents, when what is served has changed."""
        if self._built == self._catalogue.generation:
            return
        self._built = self._catalogue.generation
        groups: dict[str, dict[str, list[Resource]]] = {}
        for resource in self._catalogue.resources:
            groups.setdefault(resource.group, {}).setdefault(resource.version, []).append(resource)
        for name in {row.group for row in self._catalogue.custom}:
            groups[name] = dict(sorted(groups[name].items(), key=lambda entry: version_rank(entry[0])))
        core = groups.pop("", {})
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]
        documents: dict[str, JSON] = {
            "/api": {"kind": "APIVersions", "versions": list(core), "serverAddressByClientCIDRs": addresses},
            "/apis": {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [_group(name, list(versions)) for name, versions in groups.items()],
            },
        }
        for version, rows in core.items():
            documents[f"/api/{version}"] = _resource_list("", version, rows)
        for name, versions in groups.items():
            documents[f"/apis/{name}"] = {"kind": "APIGroup", "apiVersion": "v1"} | _group(name, list(versions))
            for version, rows in versions.items():
                documents[f"/apis/{name}/{version}"] = _resource_list(name, version, rows)
        self._legacy = {path: _encode(document) for path, document in documents.items()}
        self._aggregated = {
            (path, form): _with_etag(_aggregated_list(form, members))
            for path, members in (("/api", {"": core} if core else {}), ("/apis", groups))
            for form in _AGGREGATED
        }

    def paths(self) -> list[str]:
        """All that are answered."""
        self._build()
        return list(self._legacy)

    def answer(self, request: Request) -> Response | None:
        """The document at a path, with or without a slash at the end; None when there is none."""
        path = request.path.rstrip("/")
        if not path.startswith("/api"):
            return None
        self._build()
        body = self._legacy.get(path)
        if body is None:
            return None
        form = _wanted_form(media_types(request.headers.get("accept", "")))
        found = self._aggregated.get((path, form)) if form else None
        if found is None:
            return Response(status=200, body=body)
        document, etag = found
        headers = [("Cache-Control", "public"), ("ETag", etag), ("Vary", "Accept")]
        if is_known(etag, request.headers):
            return Response(status=304, headers=headers)
        content_type = f"application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList"
        return Response(status=200, body=document, content_type=content_type, headers=headers)


def _wanted_form(accepted: Sequence[MediaType]) -> str:
    """The version of the aggregated form that a client prefers; empty for the older form."""
    for media in accepted:
        if media.type not in ("application/json", "*/*", "application/*"):
            continue
        parameters = media.parameters
        if parameters.get("as") != "APIGroupDiscoveryList":
            if not parameters.get("as"):
                return ""
            continue
        if (
            parameters.get("g") == "apidiscovery.k8s.io"
            and parameters.get("v") in _AGGREGATED
            and parameters.get("profile", "nopeer") == "nopeer"
        ):
            return parameters["v"]
    return ""


def _encode(document: JSON) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _with_etag(document: JSON) -> tuple[bytes, str]:
    body = _encode(document)
    return body, f'"{hashlib.sha512(body).hexdigest().upper()}"'


def _group(name: str, versions: Sequence[str]) -> JSON:
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def _resource_list(group: str, version: str, rows: Sequence[Resource]) -> JSON:
    document: JSON = {"kind": "APIResourceList"}
    if group:  # upstream leaves it out for the core group
        document["apiVersion"] = "v1"
    entries: list[JSON] = []
    for resource in rows:
        entries.append(_resource_entry(resource))
        entries += [_subresource_entry(resource, each) for each in resource.subresources]
    document["groupVersion"] = f"{group}/{version}" if group else version
    document["resources"] = entries
    return document


def _resource_entry(resource: Resource) -> JSON:
    entry: JSON = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if "get" in resource.verbs:  # it is stored
        entry["storageVersionHash"] = _storage_hash(resource)
    return entry


def _storage_hash(resource: Resource) -> str:
    """Changes when objects are stored under another version: clients then read them anew."""
    if resource.custom is not None:
        name = f"{resource.group}/{resource.custom.storage}/{resource.kind}"
    else:
        stored = next(row for row in RESOURCES if row.prefix == resource.prefix)
        name = f"{stored.group}/{stored.version}/{stored.kind}"
    return base64.b64encode(hashlib.sha256(name.encode()).digest()[:8]).decode()


def _subresource_entry(resource: Resource, subresource: Subresource) -> JSON:
    entry: JSON = {
        "name": f"{resource.plural}/{subresource.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
    }
    if subresource.version:
        entry |= {"group": subresource.group, "version": subresource.version}
    return entry | {"kind": subresource.kind or resource.kind, "verbs": list(subresource.verbs)}


def _aggregated_list(form: str, groups: dict[str, dict[str, list[Resource]]]) -> JSON:
    items = [
        {
            "metadata": {"name": name} if name else {},
            "versions": [
                {
                    "version": version,
                    "resources": [_aggregated_entry(resource) for resource in rows],
                    "freshness": "Current",
                }
                for version, rows in versions.items()
            ],
        }
        for name, versions in groups.items()
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{form}",
        "metadata": {},
        "items": items,
    }


def _aggregated_entry(resource: Resource) -> JSON:
    entry: JSON = {
        "resource": resource.plural,
        "responseKind": _response_kind("", "", resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if resource.subresources:
        entry["subresources"] = [
            {
                "subresource": each.name,
                "responseKind": _response_kind(each.group, each.version, each.kind or resource.kind),
                "verbs": list(each.verbs),
            }
            for each in resource.subresources
        ]
    return entry


def _response_kind(group: str, version: str, kind: str) -> JSON:
    """Group and version are empty when they are those of the surrounding document."""
    return {"group": group, "version": version, "kind": kind}
