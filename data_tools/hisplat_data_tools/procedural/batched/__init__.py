"""Procedural scenes for a GPU: many at once, in torch alone; any device, the same pictures."""
