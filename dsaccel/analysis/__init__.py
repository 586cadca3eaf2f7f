"""What finished studies tell: landscapes, replays, calibration, variance."""
