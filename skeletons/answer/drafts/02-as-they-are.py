"""Sorts nothing: the answers are wrong."""


def answer(numbers):
    return list(numbers)
