"""All that knows Lightning: its data, its position, its loggers."""
