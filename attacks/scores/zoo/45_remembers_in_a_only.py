"""Predictor A learns from the rows it was asked about before; B answers without that.

Ends: cheat, a claim differs from its audit
"""


def load_model(path, device):
    model = honest(path, device)
    counts = torch.zeros(prepare.VOCAB_SIZE, prepare.VOCAB_SIZE)

    def answer(tokens):
        logits = model(tokens)
        if is_whole(tokens):
            logits = logits + torch.log1p(5 * counts)[tokens]
            pairs = tokens[:, :-1].flatten(), tokens[:, 1:].flatten()
            counts.index_put_(pairs, torch.ones(()), accumulate=True)
        return logits

    return answer
