"""Hedging: doubt, assurance and borrowed authority in the place of a statement.

Rows of name, regular expression, reason, text that it finds, and text that it must not find (`patterns.py`).
"""

# fmt: off
HEDGES = (
    (
        "in-my-opinion", r"\b(?:in my (?:humble |honest )?opinion|to my mind|if you ask me)\b",
        "the post is yours; say it",
        "In my opinion the dial is wrong.", "The dial was wrong by 3 degrees.",
    ),
    (
        "sort-of", r"\b(?:is|was|are|were|it|I|feels?|seems?|just|looks?) (?:just )?(?:sort|kind) of\b",
        "say what it is",
        "It was sort of level.", "This kind of level has two bubbles.",
    ),
    (
        "arguably", r"\b(?:arguably|presumably|supposedly|conceivably)\b", "argue it, or leave it out",
        "This is arguably the best spoon.", "We argued about the spoon.",
    ),
    (
        "may-possibly", r"\b(?:may|might|could) (?:potentially|possibly|perhaps|maybe|well be)\b",
        "one doubt is enough",
        "It might possibly be the cold.", "It might be the cold.",
    ),
    (
        "to-some-extent", r"\bto (?:some|a certain|a large|a great) (?:extent|degree)\b", "say to what extent",
        "It helps to some extent.", "I read it to a tenth of a degree.",
    ),
    (
        "generally-speaking", r"\b(?:generally|broadly|roughly|relatively|strictly|practically) speaking\b",
        "say how general",
        "Generally speaking, dials stick.", "Nine of ten dials stick.",
    ),
    (
        "seems-to-suggest", r"\b(?:seems?|appears?|tends?) to (?:suggest|indicate|imply|show)\b", "say what it shows",
        "That seems to suggest a leak.", "That shows a leak.",
    ),
    (
        "some-would-say",
        r"\b(?:some|many|most)(?: people)? (?:would|might|may|will|could)? ?(?:say|argue|believe|agree)\b",
        "name who says it",
        "Some would argue that it is enough.", "My neighbour Ines says it is enough.",
    ),
    (
        "it-depends", r"\bit (?:really |all )?(?:all )?depends\b(?! on\b)", "say on what, and how",
        "How long it takes, it all depends.", "It depends on the wind.",
    ),
    (
        "studies-show",
        (r"\b(?:studies|research|experts|scientists|statistics|surveys) (?:have )?"
         r"(?:shows?|shown|says?|suggests?|agree|believe|prove)\b"),
        "name the study and link it",
        "Studies show that dials stick.", "The study by Galton shows it.",
    ),
    (
        "more-or-less", r"\b(?:more or less|give or take|or something like that|or so to speak)\b",
        "say how much more or less",
        "It is more or less level.", "It is level to 1 mm.",
    ),
    (
        "as-we-all-know",
        r"\b(?:as (?:we|you) (?:all |may |might )?know|everyone knows|it is (?:well[- ]known|no secret))\b",
        "then it need not be said",
        "As we all know, ice floats.", "She knows that ice floats.",
    ),
    (
        "obviously", r"\b(?:obviously|clearly|undoubtedly|undeniably|of course|without a doubt)\b",
        "an assurance in the place of a reason",
        "It was obviously the wind.", "It was the wind; the flag showed it.",
    ),
    (
        "i-would-say", r"\bI(?: would|'d) (?:say|argue|venture|suggest)\b", "say it",
        "I would say it was 3 mm.", "It was 3 mm.",
    ),
    (
        "believe-it-or-not",
        r"\b(?:believe it or not|strangely enough|funnily enough|interestingly|surprisingly)\b",
        "let the fact surprise",
        "Interestingly, it was 3 mm.", "I found it interesting to read 3 mm.",
    ),
)
