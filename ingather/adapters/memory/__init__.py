"""Ports in this process's memory: real adapters for tests and experiments, gone when the process is."""
