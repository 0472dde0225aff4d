"""Filler: words that take room and say nothing.

Rows of name, regular expression, reason, text that it finds, and text that it must not find (`patterns.py`).
"""

# fmt: off
FILLER = (
    (
        "in-order-to", r"\bin order to\b", "`to` says the same",
        "I weighed it twice in order to be sure.", "I put the weights in order.",
    ),
    (
        "fact-that", r"\b(?:due to|owing to|thanks to|given|despite) the fact that\b|\bthe fact of the matter\b",
        "`because` or `although` says the same",
        "It drifted due to the fact that the room was cold.", "It drifted because the room was cold.",
    ),
    (
        "worth-noting",
        (r"\b(?:it is|it's|it should be) (?:also )?(?:worth|important|interesting|useful)?"
         r" ?(?:to )?(?:noting|note|noted|mentioning|remember|remembering) that\b"),
        "say it, without announcing it",
        "It is worth noting that the scale was new.", "I made a note that the scale was new.",
    ),
    (
        "needless-to-say", r"\b(?:needless to say|it goes without saying)\b", "then do not say it",
        "Needless to say, the tape was too short.", "There was no need to say more.",
    ),
    (
        "point-in-time", r"\bat (?:this|that) (?:point|moment) in time\b", "`now` or `then` says the same",
        "At this point in time I stopped.", "At this point I stopped.",
    ),
    (
        "matter-of-fact", r"\b(?:as a matter of fact|in actual fact|truth be told)\b", "announces a fact; state it",
        "As a matter of fact it was 3 mm.", "She said it as if it did not matter.",
    ),
    (
        "when-it-comes-to", r"\bwhen it comes to\b", "a detour to the subject; begin with it",
        "When it comes to kettles, mine is slow.", "I read the dial when it has come to rest.",
    ),
    (
        "basically", r"\b(?:basically|essentially|fundamentally)\b", "adds nothing; leave it out",
        "It is basically a spring.", "The basic part is a spring.",
    ),
    (
        "literally", r"\b(?:literally|quite frankly|honestly|frankly)\b", "stresses instead of saying",
        "It was literally a metre off.", "It was a metre off, by the literal reading of the rule.",
    ),
    (
        "very", r"\b(?:very|really|truly|incredibly|extremely|absolutely) [a-z]{1,20}", "give the amount instead",
        "The water was very hot.", "The water was at 94 degrees.",
    ),
    (
        "number-of", r"\ba (?:wide |large |great |whole )?(?:number|variety|range|host|multitude|array) of\b",
        "say how many, or which",
        "I tried a variety of spoons.", "I wrote the number of spoons on the lid.",
    ),
    (
        "plethora", r"\b(?:plethora|myriad|cornucopia)\b", "a grand word for many; say how many",
        "There is a plethora of gauges.", "There are forty gauges.",
    ),
    (
        "intents-and-purposes", r"\bfor all intents and purposes\b", "adds nothing; leave it out",
        "It is for all intents and purposes level.", "I had two purposes for it.",
    ),
    (
        "in-terms-of", r"\bin terms of\b", "name the relation: by, of, for",
        "In terms of weight it was fine.", "He gave the terms of the lease.",
    ),
    (
        "each-and-every", r"\b(?:each and every|one and only|first and foremost|any and all)\b",
        "one of the words will do",
        "I weighed each and every egg.", "I weighed each egg and every spoon.",
    ),
    (
        "on-a-daily-basis", r"\b(?:at all times|on a (?:daily|weekly|monthly|regular) basis)\b",
        "`always`, `daily`, `weekly`",
        "I read it on a daily basis.", "I read it daily, on the basis of a list.",
    ),
    (
        "the-process-of", r"\b(?:the process of|the act of) [a-z]{2,20}ing\b", "the verb alone says it",
        "The process of weighing takes a minute.", "The process takes a minute.",
    ),
    (
        "has-the-ability", r"\b(?:has|have|had) the ability to\b", "`can` says the same",
        "The dial has the ability to stick.", "The dial can stick.",
    ),
)
