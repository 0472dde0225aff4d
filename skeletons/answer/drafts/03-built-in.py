"""Sorts numbers, with Python's own sort."""


def answer(numbers):
    return sorted(numbers)
