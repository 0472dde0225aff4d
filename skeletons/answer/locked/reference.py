"""The reference: what the candidate's answers and times are compared with."""


def answer(numbers):
    """A list of integers to the same numbers in order, as a list."""
    found = list(numbers)
    for end in range(len(found) - 1, 0, -1):
        for at in range(end):
            if found[at] > found[at + 1]:
                found[at], found[at + 1] = found[at + 1], found[at]
    return found
