"""Exhaustive studies as tables, and what is read off them: replays, variance."""
