"""Every setting, with its unit: from files and options, checked."""
