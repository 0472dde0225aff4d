"""Empty transitions: sentences about the text in the place of sentences about its subject.

Rows of name, regular expression, reason, text that it finds, and text that it must not find (`patterns.py`).
"""

START = r"(?:^|[.!?][\"')]? )"  # of a sentence

# fmt: off
TRANSITIONS = (
    (
        "in-conclusion",
        START + r"(?:in conclusion|to conclude|in summary|to sum up|all in all|in short|in closing)\b",
        "stop when you are done",
        "In conclusion, buy a ruler.", "I came to a conclusion.",
    ),
    (
        "moreover", START + r"(?:moreover|furthermore|additionally|in addition|likewise|consequently|thus),",
        "the next sentence follows anyway",
        "It was cold. Moreover, it was wet.", "It was cold and wet.",
    ),
    (
        "that-being-said", r"\b(?:that being said|that said|having said that|be that as it may),",
        "`but` says the same",
        "That being said, I kept it.", "But I kept it.",
    ),
    (
        "with-that-in-mind", r"\b(?:with (?:that|this) in mind|with that out of the way|on that note)\b",
        "leave it out",
        "With that in mind, I began.", "I had that in mind when I began.",
    ),
    (
        "lets-look",
        r"\blet(?:'s| us| me) (?:now )?(?:dive|take a|look at|explore|unpack|break|begin by|explain|start)\b",
        "announces what comes; let it come",
        "Let's take a look at spoons.", "I let the water stand.",
    ),
    (
        "without-further-ado", r"\b(?:without further ado|last but not least|long story short|moving on)\b",
        "leave it out",
        "Without further ado, the numbers.", "The last number was the least.",
    ),
    (
        "what-does-it-mean", r"\bwhat (?:does|do|did|could) (?:all )?(?:this|that|it|these) (?:all )?mean\b",
        "a question that the writer answers alone",
        "So what does this all mean?", "I asked what the mark on the tape stood for.",
    ),
    (
        "heres-the-thing",
        r"\bhere(?:'s| is| are) (?:the (?:thing|kicker|catch|deal|twist|truth)|why|how|what)\b",
        "announces what comes; let it come",
        "Here's the thing: it was cold.", "Here is my ruler.",
    ),
    (
        "the-result",
        START + r"(?:the|and the|but the|my) (?:result|answer|verdict|takeaway|best part|catch|lesson|kicker)s?\?",
        "a question for drama",
        "I weighed it. The result? 41 g.", "I weighed it. The result was 41 g.",
    ),
    (
        "key-takeaway", r"\b(?:key takeaways?|the takeaway|the bottom line|the moral of the story)\b",
        "the reader can draw it",
        "The key takeaway is patience.", "I take away 3 g for the cup.",
    ),
    (
        "imagine", START + r"(?:imagine|picture this|have you ever|ever wondered|did you know)\b",
        "tell what happened instead",
        "Imagine a cold morning.", "I could imagine a colder one.",
    ),
    (
        "in-this-post",
        r"\bin (?:this|today's) (?:post|article|piece|blog)\b|\bas (?:mentioned|noted|discussed) (?:above|earlier)\b",
        "the reader sees which post it is",
        "In this post I weigh eggs.", "I nailed the gauge to this post.",
    ),
    (
        "sign-off",
        (r"\b(?:stay tuned|thanks for reading|thank you for reading|let me know in the comments|happy [a-z]{2,15}ing!"
         r"|hope this helps|follow (?:me )?for more|until next time)\b"),
        "ends by asking for something",
        "Thanks for reading.", "Thanks to Ines for the ruler.",
    ),
    (
        "as-an-ai", r"\b(?:as an ai|as a (?:large )?language model|i cannot fulfil|certainly! here)\b",
        "no part of a post",
        "As an AI I weigh nothing.", "I weigh nothing as an amateur.",
    ),
)
