"""Which objects of a collection a list or watch asks for."""

from __future__ import annotations

from twinstack.api.selectors import FieldSelector, LabelSelector
from twinstack.server.versions import Version, View


class Selection:
    """A scope of keys and the selectors.

    What the field selector says of name and namespace narrows the scope: `prefix` is then longer, and `key` is
    the only key that can match. `pin` is another field with the only value it may have, if there is one
    (`spec.nodeName` of a node agent's Pods).
    """

    def __init__(self, view: View, namespace: str = "", labels: str = "", fields: str = "") -> None:
        """Raises StatusError 400 for selectors that cannot be read."""
        resource = view.resource
        self.view = view
        self.identity = (resource.group, resource.version, resource.plural, namespace, labels, fields)
        self.labels = LabelSelector.parse(labels) if labels else None
        self.fields = FieldSelector.parse(fields, resource) if fields else None
        self.pin: tuple[str, str] | None = None
        name = None
        if self.fields is not None:
            name = self.fields.exact("metadata.name")
            namespace = namespace or self.fields.exact("metadata.namespace") or ""
            self.pin = self._find_pin(self.fields)
        self.prefix = f"{resource.prefix}{namespace}/" if namespace and resource.namespaced else resource.prefix
        self.key = f"{self.prefix}{name}" if name and (namespace or not resource.namespaced) else None
        if self.key is not None:
            self.prefix = self.key

    def _find_pin(self, fields: FieldSelector) -> tuple[str, str] | None:
        for field in self.view.resource.fields:
            value = fields.exact(field)
            if value:
                return field, value
        return None

    @property
    def everything(self) -> bool:
        """Whether no selector narrows the scope."""
        return self.labels is None and self.fields is None

    def covers(self, key: str) -> bool:
        """Whether a key is in scope."""
        return key.startswith(self.prefix)

    def admits(self, version: Version) -> bool:
        """Whether an object in scope is selected."""
        if self.labels is not None and not self.labels.matches(version.labels):
            return False
        return self.fields is None or self.fields.matches(version.fields(self.view))
