"""How much a post says: claims, numbers, names and links per hundred words. Pure; standard library only.

Claim    A sentence of at least five words that ends with a full stop, is not hedged, and contains a number, a
         name, or a word that compares or gives a cause.
Number   A different number with a letter word beside it; three of a sentence count.
Name     A different word with a capital that does not begin a sentence; two of a sentence count.
Link     A different address; two count.

Each counts up to a rate per hundred words beyond which more is no better. What only looks dense is refused by name:
text in which a fifth of the words are numbers, too few are the small words that make sentences, one word comes again
and again, or a sentence is repeated.
"""

from collections import Counter
from dataclasses import dataclass

from post import Post, Refused, find_words
from voice import FUNCTION, words_of

ENOUGH = {"claims": 4.0, "numbers": 4.0, "names": 1.2, "links": 0.4}  # per hundred words
WEIGHTS = {"claims": 45.0, "numbers": 35.0, "names": 12.0, "links": 8.0}  # points, 100 in all
NUMBERS_OF_SENTENCE, NAMES_OF_SENTENCE, LINKS_OF_POST = 3, 2, 2
CLAIM_WORDS = 5
SPELLED = words_of(
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty seventy"
    " eighty ninety hundred thousand half third quarter twice"
)
COMPARING = words_of(
    "more less most least fewer than as twice half double longer shorter higher lower heavier lighter faster slower"
    " warmer colder larger smaller thicker thinner wider narrower earlier later same equal because so since"
    " therefore why cause causes caused makes made"
)
HEDGING = words_of(
    "perhaps maybe possibly probably might may could seems seem seemed apparently somewhat arguably presumably"
)
MAX_NUMBER_SHARE, MAX_NUMBERS_OF_SENTENCE = 0.2, 6
MIN_FUNCTION_SHARE, MAX_FUNCTION_SHARE = 0.33, 0.72
MAX_NAME_SHARE = 0.12
MAX_WORD_SHARE, MIN_REPEATS = 0.06, 7  # of one content word
MIN_DIFFERENT = 0.42  # words, of all


@dataclass(frozen=True)
class Substance:
    """What a post says: points of 100, and the rates per hundred words."""

    points: float
    rates: dict[str, float]


def weigh(post: Post) -> Substance:
    """Return the density of a post."""
    numbers: set[str] = set()
    names: set[str] = set()
    claims = 0
    for sentence in post.sentences:
        found, named = numbers_in(sentence), names_in(sentence)
        numbers |= set(found[:NUMBERS_OF_SENTENCE])
        names |= set(named[:NAMES_OF_SENTENCE])
        claims += is_claim(sentence, has_figure=bool(found or named))
    links = min(len(set(post.links)), LINKS_OF_POST)
    counts = {"claims": claims, "numbers": len(numbers), "names": len(names), "links": links}
    rates = {name: 100 * count / len(post.words) for name, count in counts.items()}
    points = sum(WEIGHTS[name] * min(1.0, rate / ENOUGH[name]) for name, rate in rates.items())
    return Substance(points=points, rates=rates)


def numbers_in(sentence: str) -> list[str]:
    """Return the numbers of a sentence that have a word beside them, in order."""
    words = find_words(sentence)
    found = []
    for at, word in enumerate(words):
        beside = words[max(0, at - 1) : at] + words[at + 1 : at + 2]
        if is_number(word) and any(not is_number(other) for other in beside):
            found.append(word.lower())
    return found


def is_number(word: str) -> bool:
    """Return whether a word is a number, in digits or letters."""
    return word[0].isdigit() or word.lower() in SPELLED


def names_in(sentence: str) -> list[str]:
    """Return the capitalised words of a sentence but the first, in order."""
    return [word for word in find_words(sentence)[1:] if word[0].isupper() and word.lower() not in FUNCTION]


def is_claim(sentence: str, *, has_figure: bool) -> bool:
    """Return whether a sentence claims something that can be wrong."""
    words = [word.lower() for word in find_words(sentence)]
    if len(words) < CLAIM_WORDS or not sentence.rstrip("\"')").endswith(".") or HEDGING.intersection(words):
        return False
    return has_figure or bool(COMPARING.intersection(words))


def refuse_stuffing(post: Post) -> None:
    """Raise Refused for text that was made to be counted, not to be read."""
    words = [word.lower() for word in post.words]
    digits = sum(word[0].isdigit() for word in words)
    if digits > MAX_NUMBER_SHARE * len(words):
        raise Refused("numbers-salad", f"{digits} of {len(words)} words are numbers; say what each of them measures")
    for sentence in post.sentences:
        if (many := sum(word[0].isdigit() for word in find_words(sentence))) > MAX_NUMBERS_OF_SENTENCE:
            raise Refused("numbers-salad", f"a sentence has {many} numbers, at most {MAX_NUMBERS_OF_SENTENCE} are read")
    names = sum(len(names_in(sentence)) for sentence in post.sentences)
    if names > MAX_NAME_SHARE * len(words):
        raise Refused("name-salad", f"{names} of {len(words)} words are capitalised names; say what they did")
    share = sum(word in FUNCTION for word in words) / len(words)
    if not MIN_FUNCTION_SHARE <= share <= MAX_FUNCTION_SHARE:
        raise Refused(
            "word-salad", f"{share:.0%} of the words are small words such as `the`, `of`, `is`; write sentences"
        )
    content = Counter(word for word in words if word not in FUNCTION and not word[0].isdigit())
    word, times = content.most_common(1)[0] if content else ("", 0)
    if times >= MIN_REPEATS and times > MAX_WORD_SHARE * len(words):
        raise Refused("keyword-stuffing", f"{word!r} is {times} of {len(words)} words; say it once a sentence at most")
    if len(set(words)) < MIN_DIFFERENT * len(words):
        raise Refused("keyword-stuffing", f"only {len(set(words))} of {len(words)} words are different")
    twice = [sentence for sentence, times in Counter(s.lower() for s in post.sentences).items() if times > 1]
    if twice:
        raise Refused("repeated-sentence", f'a sentence is said more than once: "{twice[0][:60]}"')
