"""The Common Expression Language (CEL), as Kubernetes uses it in validation rules: parsed once, evaluated often."""
