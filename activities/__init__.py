"""What touches the world: one small class a concern, its constructor taking ports."""
