"""From a configuration to a network, and its weights on disk."""
