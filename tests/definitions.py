"""CustomResourceDefinitions of the size and shape of those that charts bring: built from parts, as their authors do."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import copy
from typing import Any

JSON = dict[str, Any]

TEXT: JSON = {"type": "string"}
WHOLE: JSON = {"type": "integer", "format": "int32"}
FLAG: JSON = {"type": "boolean"}
NAME: JSON = {
    "type": "string",
    "minLength": 1,
    "maxLength": 253,
    "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
}
LABELS: JSON = {"type": "object", "additionalProperties": TEXT}


def record(required: str = "", /, **properties: JSON) -> JSON:
    """An object; underscores at the end of names are dropped, so that `from_` and the like can be said."""
    fields = {name.rstrip("_"): schema for name, schema in properties.items()}
    return {"type": "object", "properties": fields} | ({"required": required.split()} if required else {})


def items(schema: JSON, *keys: str, **more: Any) -> JSON:
    """A list, with keys a map."""
    found: JSON = {"type": "array", "items": schema} | more
    if keys:
        found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    return found


def rule(text: str, message: str = "", **more: str) -> JSON:
    return {"rule": text} | ({"message": message} if message else {}) | more


def definition(group: str, kind: str, versions: list[JSON], *, plural: str = "", **more: Any) -> JSON:
    plural = plural or f"{kind.lower()}s"
    names = {"kind": kind, "plural": plural} | more.pop("names", {})
    annotations = {"api-approved.kubernetes.io": "unapproved, for tests"} if group.endswith(".k8s.io") else {}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": annotations},
        "spec": {"group": group, "names": names, "scope": more.pop("scope", "Namespaced"), "versions": versions} | more,
    }


def version(name: str, schema: JSON, *, storage: bool = True, **more: Any) -> JSON:
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}} | more


CONDITIONS = items(
    record(
        "type status reason message lastTransitionTime",
        type={
            "type": "string",
            "maxLength": 316,
            "pattern": r"^([-A-Za-z0-9.]+/)?[A-Za-z0-9]([-_A-Za-z0-9.]*[A-Za-z0-9])?$",
        },
        status={"type": "string", "enum": ["True", "False", "Unknown"]},
        reason={"type": "string", "minLength": 1, "maxLength": 1024},
        message={"type": "string", "maxLength": 32768},
        lastTransitionTime={"type": "string", "format": "date-time"},
        observedGeneration={"type": "integer", "format": "int64", "minimum": 0},
    ),
    "type",
    maxItems=8,
)


def selector() -> JSON:
    expression = record("key operator", key=TEXT, operator=TEXT, values=items(TEXT))
    return record(matchLabels=LABELS, matchExpressions=items(expression)) | {"x-kubernetes-map-type": "atomic"}


def affinity() -> JSON:
    term = record(
        "topologyKey", labelSelector=selector(), namespaceSelector=selector(), namespaces=items(TEXT), topologyKey=TEXT
    )
    weighted = record("weight podAffinityTerm", weight=WHOLE, podAffinityTerm=term)
    both = record(
        preferredDuringSchedulingIgnoredDuringExecution=items(weighted),
        requiredDuringSchedulingIgnoredDuringExecution=items(term),
    )
    expression = record("key operator", key=TEXT, operator=TEXT, values=items(TEXT))
    node = record(matchExpressions=items(expression), matchFields=items(expression)) | {
        "x-kubernetes-map-type": "atomic"
    }
    preferred = record("preference weight", preference=node, weight=WHOLE)
    nodes = record(
        preferredDuringSchedulingIgnoredDuringExecution=items(preferred),
        requiredDuringSchedulingIgnoredDuringExecution=record("nodeSelectorTerms", nodeSelectorTerms=items(node)),
    )
    return record(nodeAffinity=nodes, podAffinity=both, podAntiAffinity=both)


def pod_template() -> JSON:
    security = record(
        runAsUser={"type": "integer", "format": "int64"}, runAsNonRoot=FLAG, supplementalGroups=items(WHOLE)
    )
    toleration = record(key=TEXT, operator=TEXT, value=TEXT, effect=TEXT, tolerationSeconds=WHOLE)
    amounts = {
        "type": "object",
        "additionalProperties": {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
            "x-kubernetes-int-or-string": True,
        },
    }
    spec = record(
        affinity=affinity(),
        imagePullSecrets=items(record(name=TEXT | {"default": ""}), "name"),
        nodeSelector=LABELS,
        priorityClassName=TEXT,
        resources=record(limits=amounts, requests=amounts),
        securityContext=security,
        serviceAccountName=TEXT,
        tolerations=items(toleration),
    )
    return record(metadata=record(annotations=LABELS, labels=LABELS), spec=spec)


def secret_key() -> JSON:
    return record("name", key=TEXT, name=TEXT)


def issuers() -> JSON:
    """Of certificates: deep, wide, with alternatives and a pod template in each of some solvers."""
    http = record(
        ingress=record(class_=TEXT, ingressClassName=TEXT, name=TEXT, serviceType=TEXT, podTemplate=pod_template()),
        gatewayHTTPRoute=record(
            labels=LABELS,
            parentRefs=items(record("name", name=NAME, namespace=TEXT, port=WHOLE)),
            serviceType=TEXT,
            podTemplate=pod_template(),
        ),
    )
    provider = record("email", email=TEXT, apiKeySecretRef=secret_key(), apiTokenSecretRef=secret_key(), project=TEXT)
    dns = record(
        **{name: copy.deepcopy(provider) for name in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")},
        cnameStrategy={"type": "string", "enum": ["None", "Follow"]},
        webhook=record(
            "groupName solverName",
            groupName=TEXT,
            solverName=TEXT,
            config={"x-kubernetes-preserve-unknown-fields": True},
        ),
    )
    solver = record(
        http01=http, dns01=dns, selector=record(dnsNames=items(TEXT), dnsZones=items(TEXT), matchLabels=LABELS)
    )
    acme = record(
        "privateKeySecretRef server",
        server={"type": "string", "format": "uri"},
        email={"type": "string", "format": "email"},
        caBundle={"type": "string", "format": "byte"},
        skipTLSVerify=FLAG,
        privateKeySecretRef=secret_key(),
        solvers=items(solver),
    )
    spec = record(
        acme=acme, ca=record("secretName", secretName=NAME, ocspServers=items(TEXT)), selfSigned=record(url=TEXT)
    )
    spec["oneOf"] = [{"required": [name]} for name in ("acme", "ca", "selfSigned")]
    status = record(conditions=CONDITIONS, acme=record(uri=TEXT, lastPrivateKeyHash=TEXT))
    columns = [
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {
            "name": "Status",
            "type": "string",
            "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
            "priority": 1,
        },
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    schema = record("spec", spec=spec, status=status) | {"description": "Who signs certificates."}
    return definition(
        "certs.example.com",
        "Issuer",
        [version("v1", schema, subresources={"status": {}}, additionalPrinterColumns=columns)],
        names={"categories": ["certs"], "shortNames": ["iss"]},
    )


def certificates() -> JSON:
    usages = ["signing", "digital signature", "key encipherment", "server auth", "client auth", "code signing"]
    spec = record(
        "issuerRef secretName",
        commonName={"type": "string", "maxLength": 64},
        dnsNames=items(TEXT),
        duration={"type": "string", "format": "duration"},
        issuerRef=record("name", group=TEXT, kind=TEXT | {"default": "Issuer"}, name=NAME),
        privateKey=record(
            algorithm={"type": "string", "enum": ["RSA", "ECDSA", "Ed25519"], "default": "RSA"},
            encoding={"type": "string", "enum": ["PKCS1", "PKCS8"]},
            rotationPolicy={"type": "string", "enum": ["Never", "Always"]},
            size=WHOLE,
        ),
        revisionHistoryLimit=WHOLE | {"minimum": 1},
        secretName=NAME,
        usages=items({"type": "string", "enum": usages}),
    )
    status = record(conditions=CONDITIONS, notAfter={"type": "string", "format": "date-time"}, revision=WHOLE)
    columns = [
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Secret", "type": "string", "jsonPath": ".spec.secretName"},
        {"name": "Issuer", "type": "string", "jsonPath": ".spec.issuerRef.name", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    schema = record("spec", spec=spec, status=status)
    return definition(
        "certs.example.com",
        "Certificate",
        [
            version(
                "v1",
                schema,
                subresources={"status": {}},
                additionalPrinterColumns=columns,
                selectableFields=[{"jsonPath": ".spec.secretName"}],
            )
        ],
        names={"categories": ["certs"], "shortNames": ["cert", "certs"]},
    )


def routes() -> JSON:
    """Of gateways: lists in lists, keys, and many rules in CEL; two versions."""
    port = WHOLE | {"minimum": 1, "maximum": 65535}
    backend = record(
        "name",
        group={"type": "string", "maxLength": 253, "default": ""},
        kind={"type": "string", "minLength": 1, "maxLength": 63, "default": "Service"},
        name=NAME,
        namespace=NAME,
        port=port,
        weight=WHOLE | {"minimum": 0, "maximum": 1000000, "default": 1},
    ) | {
        "x-kubernetes-validations": [
            rule(
                "(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",
                "Must have port for Service reference",
            )
        ]
    }
    header = record(
        "name value",
        name={"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[A-Za-z0-9!#$%&'*+\\-.^_\\x60|~]+$"},
        value={"type": "string", "minLength": 1, "maxLength": 4096},
        type={"type": "string", "enum": ["Exact", "RegularExpression"], "default": "Exact"},
    )
    path = record(
        type={"type": "string", "enum": ["Exact", "PathPrefix", "RegularExpression"], "default": "PathPrefix"},
        value={"type": "string", "maxLength": 1024, "default": "/"},
    ) | {
        "x-kubernetes-validations": [
            rule(
                "(self.type in ['Exact','PathPrefix']) ? self.value.startsWith('/') : true",
                "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']",
            ),
            rule(
                "(self.type in ['Exact','PathPrefix']) ? !self.value.contains('//') : true",
                "must not contain '//' when type one of ['Exact', 'PathPrefix']",
            ),
        ]
    }
    match = record(
        headers=items(header, "name", maxItems=16), method={"type": "string", "enum": ["GET", "PUT", "POST"]}, path=path
    )
    modifier = record(
        add=items(header, "name", maxItems=16),
        remove=items(TEXT, maxItems=16) | {"x-kubernetes-list-type": "set"},
        set=items(header, "name", maxItems=16),
    )
    filter_ = record(
        "type",
        type={"type": "string", "enum": ["RequestHeaderModifier", "RequestRedirect"]},
        requestHeaderModifier=modifier,
        requestRedirect=record(
            hostname=NAME, port=port, statusCode={"type": "integer", "enum": [301, 302], "default": 302}
        ),
    ) | {
        "x-kubernetes-validations": [
            rule(
                "!(has(self.requestHeaderModifier) && self.type != 'RequestHeaderModifier')",
                "filter.requestHeaderModifier must be nil if the filter.type is not RequestHeaderModifier",
            ),
            rule(
                "!(!has(self.requestRedirect) && self.type == 'RequestRedirect')",
                "filter.requestRedirect must be specified for RequestRedirect filter.type",
            ),
        ]
    }
    one = record(
        backendRefs=items(backend | {}, maxItems=16),
        filters=items(filter_, maxItems=16),
        matches=items(match, maxItems=64),
        name=NAME,
        timeouts=record(
            request={"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"},
            backendRequest={"type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"},
        )
        | {
            "x-kubernetes-validations": [
                rule(
                    "!(has(self.request) && has(self.backendRequest) && duration(self.request) != duration('0s') && duration(self.backendRequest) > duration(self.request))",
                    "backendRequest timeout cannot be longer than request timeout",
                )
            ]
        },
    )
    one["x-kubernetes-validations"] = [
        rule(
            "(has(self.backendRefs) && size(self.backendRefs) > 0) ? (!has(self.filters) || self.filters.all(f, !has(f.requestRedirect))) : true",
            "RequestRedirect filter must not be used together with backendRefs",
        )
    ]
    parent = record(
        "name",
        group=TEXT | {"default": "gateway.example.com"},
        kind=TEXT | {"default": "Gateway"},
        name=NAME,
        namespace=NAME,
        port=port,
        sectionName=NAME,
    )
    spec = record(
        hostnames=items(NAME, maxItems=16),
        parentRefs=items(parent, maxItems=32)
        | {
            "x-kubernetes-validations": [
                rule(
                    "self.all(p1, self.exists_one(p2, p1.name == p2.name && (!has(p1.sectionName) && !has(p2.sectionName) || has(p1.sectionName) && has(p2.sectionName) && p1.sectionName == p2.sectionName)))",
                    "sectionName must be unique when parentRefs includes 2 or more references to the same parent",
                )
            ]
        },
        rules=items(one, maxItems=16)
        | {
            "default": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
            "x-kubernetes-validations": [
                rule(
                    "self.all(l1, !has(l1.name) || self.exists_one(l2, has(l2.name) && l1.name == l2.name))",
                    "Rule name must be unique within the route",
                )
            ],
        },
    )
    status = record(
        "parents",
        parents=items(
            record("controllerName parentRef", conditions=CONDITIONS, controllerName=TEXT, parentRef=parent),
            maxItems=32,
        ),
    )
    schema = record("spec", spec=spec, status=status)
    columns = [
        {"name": "Hostnames", "type": "string", "jsonPath": ".spec.hostnames"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    return definition(
        "gateway.example.com",
        "WebRoute",
        [
            version("v1", schema, subresources={"status": {}}, additionalPrinterColumns=columns),
            version(
                "v1beta1",
                copy.deepcopy(schema),
                storage=False,
                subresources={"status": {}},
                additionalPrinterColumns=columns,
                deprecated=True,
                deprecationWarning="v1beta1 of webroutes is about to go",
            ),
        ],
        names={"categories": ["gateway"]},
    )


def workers() -> JSON:
    """Something that scales."""
    spec = record("size", size={"type": "integer", "minimum": 0, "maximum": 100, "default": 1}, image=TEXT)
    spec["x-kubernetes-validations"] = [
        rule(
            "!has(oldSelf.image) || has(self.image)",
            "image cannot be removed",
            reason="FieldValueForbidden",
            fieldPath=".image",
        ),
        {
            "rule": "self.size % 2 == 0 || self.size < 10",
            "messageExpression": "'large pools are even, not ' + string(self.size)",
        },
    ]
    status = record(size=WHOLE, selector=TEXT)
    scale = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.size",
        "labelSelectorPath": ".status.selector",
    }
    return definition(
        "pools.example.com",
        "WorkerPool",
        [
            version(
                "v1",
                record(spec=spec, status=status),
                subresources={"status": {}, "scale": scale},
                additionalPrinterColumns=[{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            )
        ],
        names={"shortNames": ["wp"]},
    )


def all_of_them() -> list[JSON]:
    return [issuers(), certificates(), routes(), workers()]
