"""What runs inside of the sandbox. It imports nothing of the package but itself."""
