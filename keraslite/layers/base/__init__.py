"""The base of all layers: building, calling, state, configs; nothing of a particular layer."""
