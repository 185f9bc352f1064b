"""Measure Ingather beside a plain process pool, in one run on one machine."""
