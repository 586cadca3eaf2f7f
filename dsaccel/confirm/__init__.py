"""Fresh seeds, controls and the test split: which leads are noise."""
