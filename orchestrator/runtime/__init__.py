"""What the product mounts into every container beside the task's locked files; runs there, never on the host."""
