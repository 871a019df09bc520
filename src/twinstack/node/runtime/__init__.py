"""Container runtimes behind one protocol. Imports nothing: the process beside every container passes here."""
