"""Which of a pod's addresses accept on its container ports, read from the sockets of its network namespace."""
