"""Sorts numbers, by insertion."""


def answer(numbers):
    found = []
    for number in numbers:
        at = len(found)
        while at and found[at - 1] > number:
            at -= 1
        found.insert(at, number)
    return found
