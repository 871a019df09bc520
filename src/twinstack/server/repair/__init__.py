"""Allocations of cluster IPs and node ports, compared with the Services that hold them, and mended."""
