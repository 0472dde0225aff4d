"""Clichés: pictures and praise that fit every text, and the favourites of generated text.

Rows of name, regular expression, reason, text that it finds, and text that it must not find (`patterns.py`).
"""

# fmt: off
CLICHES = (
    (
        "todays-world", r"\bin today's (?:[a-z-]{1,20}+ ){0,3}(?:world|age|era|landscape|society|climate)\b",
        "a beginning that fits every text",
        "In today's fast-paced world we all measure.", "In the world map 2 mm were missing.",
    ),
    (
        "ever-changing", r"\bever-(?:changing|evolving|growing|expanding|increasing)\b",
        "says nothing that can be checked",
        "An ever-changing field.", "A reading that changes by the hour.",
    ),
    (
        "game-changer", r"\bgame[- ]chang(?:er|ers|ing)\b", "say what it changed, and by how much",
        "The new tape was a game-changer.", "The rain changed the game.",
    ),
    (
        "delve", r"\bdelv(?:e|es|ed|ing)\b", "a word of generated text; look, dig, read",
        "Let us delve into tyres.", "I dug into the shelves.",
    ),
    (
        "tapestry", r"\b(?:rich|intricate|vibrant|complex) (?:tapestry|mosaic|fabric)\b",
        "a picture that shows nothing",
        "Cooking is a rich tapestry of numbers.", "The tapestry is 2 m wide.",
    ),
    (
        "deep-dive", r"\bdeep[- ]div(?:e|es|ing)\b", "say what was looked at",
        "This is a deep dive into scales.", "He can dive 12 m deep.",
    ),
    (
        "unlock",
        (r"\bunlock(?:s|ed|ing)? (?:the |its |your |their |new )?(?:full |true )?"
         r"(?:power|potential|secrets|insights|value|levels?)\b"),
        "nothing was locked",
        "A ruler will unlock the full potential of your desk.", "I had to unlock the shed first.",
    ),
    (
        "next-level", r"\b(?:to the next level|take it up a notch|level up)\b", "say what got better",
        "This takes weighing to the next level.", "The water rose to the next mark.",
    ),
    (
        "end-of-the-day", r"\bat the end of the day,|\bwhen all is said and done\b", "ends without saying anything",
        "At the end of the day, a ruler is a ruler.", "I read it at the end of the day and again at six.",
    ),
    (
        "tip-of-the-iceberg", r"\btip of the iceberg\b", "worn out; say what else there is",
        "The dial was the tip of the iceberg.", "The tip of the pencil broke.",
    ),
    (
        "outside-the-box", r"\b(?:think|thinking|thought) outside (?:of )?the box\b", "worn out; say what was new",
        "I had to think outside the box.", "I put the scale outside the box.",
    ),
    (
        "low-hanging-fruit", r"\blow[- ]hanging fruits?\b", "worn out; say what was easy",
        "The draught was low-hanging fruit.", "The pears hang low on this tree.",
    ),
    (
        "double-edged-sword", r"\bdouble[- ]edged sword\b", "worn out; say both sides",
        "Precision is a double-edged sword.", "The blade is double-edged.",
    ),
    (
        "needle-in-a-haystack", r"\bneedle in (?:a|the) haystack\b", "worn out; say how rare it was",
        "Finding it was a needle in a haystack.", "The needle sat at 40.",
    ),
    (
        "devil-in-the-details", r"\bdevil(?: is|'s) in the detail", "worn out; give the detail",
        "As always the devil is in the details.", "The details are in the table.",
    ),
    (
        "time-will-tell", r"\b(?:only time will tell|the rest is history|food for thought)\b",
        "ends without saying anything",
        "Whether it holds, only time will tell.", "Only the clock will tell the time.",
    ),
    (
        "rabbit-hole", r"\brabbit[- ]hole\b", "worn out; say what you read",
        "I went down a rabbit hole of thermometers.", "The rabbit dug a hole by the gauge.",
    ),
    (
        "secret-sauce", r"\b(?:secret sauce|magic bullet|silver bullet|holy grail)\b", "worn out; name the thing",
        "Patience is the secret sauce.", "The sauce took 12 minutes.",
    ),
    (
        "move-the-needle", r"\bmov(?:e|es|ed|ing) the needle\b", "worn out; say by how much",
        "None of it moved the needle.", "The needle moved to 40.",
    ),
    (
        "cutting-edge", r"\b(?:cutting|bleeding)[- ]edge\b|\bstate[- ]of[- ]the[- ]art\b", "praise without a measure",
        "A cutting-edge thermometer.", "I kept the edge sharp for cutting.",
    ),
    (
        "seamless", r"\b(?:seamless|seamlessly|effortless|effortlessly)\b", "praise without a measure",
        "The lid fits seamlessly.", "The lid has a seam.",
    ),
    (
        "leverage", r"\bleverag(?:es|ed|ing)\b|\b(?:to|can|could|will|we|you|I) leverage\b", "`use` says the same",
        "I leveraged the old ruler.", "The long arm gives more leverage.",
    ),
    (
        "testament", r"\b(?:a |is )testament to\b", "say what it shows",
        "The dial is a testament to its maker.", "He read the Old Testament.",
    ),
    (
        "journey", r"\b(?:embark|embarked|embarking|set out) on (?:a|the|this|my|your) (?:[a-z]{1,15}+ )?journey\b",
        "nobody travelled",
        "I embarked on a journey of weighing.", "The journey took 41 minutes.",
    ),
    (
        "elephant-in-the-room", r"\belephant in the room\b", "worn out; name it",
        "The elephant in the room is the wind.", "The elephant weighs 5 t.",
    ),
    (
        "harness-the-power",
        r"\b(?:harness|tap into|embrace)(?:s|d|es|ed|ing)? the (?:[a-z]{1,15}+ )?(?:power|magic|beauty)\b",
        "say what was used",
        "Harness the power of the metre.", "The harness carries 90 kg.",
    ),
    (
        "revolutionise", r"\brevolutioni[sz](?:e|es|ed|ing)\b", "say what changed, and by how much",
        "It revolutionised my kitchen.", "It made one revolution a second.",
    ),
    (
        "not-just-but", r"\bnot (?:just|only|merely|simply) [^.!?;]{1,80}?(?:\bbut\b|, (?:it|they|it's|this)\b)",
        "a figure of generated text; say the second half",
        "It is not just a ruler, but a promise.", "It is not just a second; it is 1.4 seconds.",
    ),
    (
        "more-than-just", r"\b(?:more than|so much more than) just (?:a|an|the)\b", "say what more",
        "It is more than just a spoon.", "It holds more than a spoon.",
    ),
    (
        "changes-everything", r"\b(?:changes|changed) (?:everything|the way (?:we|you|I))\b", "say what changed",
        "That spoon changed everything.", "I changed the battery.",
    ),
    (
        "crucial-role", r"\bplay(?:s|ed|ing)? an? (?:crucial|vital|key|pivotal|important|critical) (?:role|part)\b",
        "say what it does",
        "Heat plays a crucial role.", "Heat adds 3 mm.",
    ),
    (
        "navigate",
        r"\bnavigat(?:e|es|ed|ing) (?:the|this|these) (?:[a-z]{1,15}+ )?(?:complexities|challenges|landscape|world)\b",
        "nobody sailed",
        "Navigating the complexities of rain.", "I can navigate by the church.",
    ),
)
