"""New training sentences from the words of recordings."""
