"""What a study leaves behind: pages, tables, exported configs."""
