"""What a ResourceQuota counts and of which objects: shared by the server, which charges, and the controller."""
