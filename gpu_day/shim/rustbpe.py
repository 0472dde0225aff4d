"""Satisfies an import of upstream's prepare.py; its tokenizer is trained already."""
