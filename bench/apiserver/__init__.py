"""What the benchmarks of the API server share: the server as a process, its clients, and the floors beside it."""
