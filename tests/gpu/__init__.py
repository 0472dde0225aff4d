"""The GPU day and the GPU check, as far as they can be tested without a GPU."""
