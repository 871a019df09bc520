"""Which objects of a collection a list or watch asks for."""

from __future__ import annotations

from twinstack.api.selectors import FieldSelector, LabelSelector
from twinstack.server.versions import Version, View


class Selection:
    """A scope of keys (a namespace or all) and the selectors."""

    def __init__(self, view: View, namespace: str = "", labels: str = "", fields: str = "") -> None:
        """Raises StatusError 400 for selectors that cannot be read."""
        resource = view.resource
        self.view = view
        self.identity = (resource.group, resource.plural, namespace, labels, fields)
        self.prefix = f"{resource.prefix}{namespace}/" if namespace and resource.namespaced else resource.prefix
        self.labels = LabelSelector.parse(labels) if labels else None
        self.fields = FieldSelector.parse(fields, resource) if fields else None

    @property
    def everything(self) -> bool:
        """Whether no selector narrows the scope."""
        return self.labels is None and self.fields is None

    def covers(self, key: str) -> bool:
        return key.startswith(self.prefix)

    def admits(self, version: Version) -> bool:
        """Whether an object in scope is selected."""
        if self.labels is not None and not self.labels.matches(version.labels):
            return False
        return self.fields is None or self.fields.matches(version.fields(self.view))
