"""What is never forgotten: the journal, the files of every experiment, and everything that looks into them."""
