"""The Kubernetes API as data: types, resources, schema, errors, selectors. Pure."""
