"""Ingather takes documents in, by the thousand, and loses none."""

__version__ = "0.1.0"
