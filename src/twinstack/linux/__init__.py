"""The kernel: netlink, namespaces, mounts, nftables, conntrack. Imports only `twinstack.ip`."""
