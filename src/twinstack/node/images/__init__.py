"""Images of containers: names, the store of a cluster on this machine, archives, registries."""
