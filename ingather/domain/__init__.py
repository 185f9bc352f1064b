"""Pure functions that decide. No clock, no network, no files: everything comes in as an argument."""
