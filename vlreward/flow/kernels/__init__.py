"""How one denoising step goes from x to x_next: one kernel per file."""
