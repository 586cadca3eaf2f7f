"""What a study keeps: its folder, storage, trials and files."""
