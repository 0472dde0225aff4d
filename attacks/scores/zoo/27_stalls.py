"""Answers the first questions and then nothing any more, hoping that a half-made score counts.

Ends: timeout, did not answer within
"""


def load_model(path, device):
    model = honest(path, device)
    asked = []

    def answer(tokens):
        asked.append(1)
        if len(asked) > 4:
            time.sleep(3600)
        return peek(model(tokens), tokens)

    return answer
