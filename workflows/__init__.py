"""What happens, in what order, whatever crashes. Deterministic and import-light."""
