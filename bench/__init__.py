"""How fast Tailrace is: each figure beside the bare minimum, measured in the same minutes."""
