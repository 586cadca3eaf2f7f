"""Networks in torch: layers, losses, weights."""
