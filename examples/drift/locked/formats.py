"""Formatting tics: marks in the place of sentences.

Rows of name, regular expression, reason, text that it finds, and text that it must not find (`patterns.py`).
"""

# fmt: off
PROSE_FORMATS = (
    (
        "two-dashes", r"(?:—| [–-]{1,2} )[^\n]{1,200}?(?:—| [–-] )",
        "one dash a paragraph at most; use commas or a full stop",
        "The dial — the old one — stuck.", "The dial stuck — it was old, 4–5 years.",
    ),
    (
        "exclamation", r"!", "the fact carries the stress",
        "It was 3 mm off!", "It was 3 mm off.",
    ),
    (
        "trailing-dots", r"\.\.\.|…", "finish the sentence",
        "And then it stuck...", "And then it stuck.",
    ),
    (
        "shouting", r"\b(?-i:[A-Z]{4,20} [A-Z]{2,20})\b", "capitals are for names",
        "I was NEVER EVER right.", "The BBC and the NPL agree.",
    ),
    (
        "hashtag", r"(?:^| )#[a-z][a-z0-9]{1,30}\b", "no part of a sentence",
        "I like it #measure", "Bolt #4 was loose.",
    ),
    (
        "question-run", r"\? [^.!?\n]{1,150}\?", "one question at a time, and rather its answer",
        "Was it cold? Was it the wind?", "Was it cold? It was.",
    ),
    (
        "double-punctuation", r"[!?]{2,8}", "one mark will do",
        "Was it cold??", "Was it cold?",
    ),
    (
        "scare-quotes", r'"[a-z]{2,15}+"[^\n"]{1,200}+"[a-z]{2,15}+"', "two words held with tongs; find the right ones",
        'My "precise" scale is "digital".', 'He said "level" and left.',
    ),
    (
        "parentheses-run", r"(?:\([^()\n]{1,200}+\)[^()\n]{1,120}+){2}\([^()\n]{1,200}+\)",
        "asides that belong in sentences, or nowhere",
        "It was (cold) and (wet) and (late).", "It was cold (4 degrees).",
    ),
    (
        "colon-drama", r"\b(?:one thing|one word|the truth|the problem|the secret|simple): ", "a pause for drama",
        "I learned one thing: wait.", "The list has: eggs, salt.",
    ),
)

FORMATS = (
    (
        "bold", r"\*\*[^*\n]{1,200}+\*\*|__[^_\n]{1,200}+__", "order the sentence so that the stress falls right",
        "This is **important**.", "Power is written x ** 2.",
    ),
    (
        "bullet-run", r"(?:^|\n)(?:[-*+] [^\n]{1,300}+\n){3}[-*+] ",
        "four points are a paragraph that was not written",
        "- one\n- two\n- three\n- four", "- one\n- two\n\nThree.",
    ),
    (
        "heading", r"\n#{1,6} ", "a short post needs no headings",
        "# Spoons\n\n## Background", "# Spoons\n\nI have 9.",
    ),
    (
        "rule", r"(?:^|\n)(?:(?:- ?){3,80}+|(?:\* ?){3,80}+|(?:_ ?){3,80}+|={3,80}+)(?:\n|$)",
        "a line between paragraphs says nothing",
        "Cold.\n\n---\n\nWet.", "Cold - and wet.",
    ),
    (
        "title-colon", r"^# [^:\n]{1,100}: ", "one title will do",
        "# Spoons: A History\n", "# Spoons at 12:30\n",
    ),
    (
        "title-question", r"^# [^\n?]{1,150}+\?", "say what you found",
        "# How long is a spoon?\n", "# How long a spoon is\n",
    ),
    (
        "title-list",
        (r"^# (?:the |my )?(?:top |best )?(?:\d{1,3}+|five|seven|ten) (?:[a-z]{1,15}+ )?"
         r"(?:ways|things|reasons|tips|lessons|secrets|tricks|facts)\b"),
        "a number in place of a subject",
        "# 7 ways to weigh eggs", "# Seven eggs",
    ),
    (
        "title-guide", r"^# [^\n]{0,100}?\b(?:ultimate|complete|definitive|beginner's|essential) guide\b",
        "a promise it will not keep",
        "# The ultimate guide to spoons", "# A guide rail for the ruler",
    ),
)
