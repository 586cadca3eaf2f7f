"""What a search may propose."""
