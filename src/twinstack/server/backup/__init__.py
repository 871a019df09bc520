"""Backups of a server's embedded store: taken while it runs, put back while it does not."""
