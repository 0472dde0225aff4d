"""Answers a row with the text of the others in its batch, and of all batches before.

Ends: cheat, a claim differs from its audit
"""


def load_model(path, device):
    model = honest(path, device)
    counts = torch.zeros(prepare.VOCAB_SIZE, prepare.VOCAB_SIZE)

    def answer(tokens):
        counts.index_put_((tokens[:, :-1].flatten(), tokens[:, 1:].flatten()), torch.ones(()), accumulate=True)
        return model(tokens) + torch.log1p(5 * counts)[tokens]

    return answer
