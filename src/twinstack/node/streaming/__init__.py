"""exec, attach and port-forward as kubelet serves them: one agent side for every protocol that clients speak."""
