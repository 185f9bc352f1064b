"""Published contracts: thin routers that translate their own words to and from the core."""
