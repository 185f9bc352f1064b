"""What the core needs from the world, as small protocols. Adapters fulfil them, one technology a file."""
