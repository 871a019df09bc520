"""The service proxy: a client of the Kubernetes API that programs nf_tables in its network namespace."""
