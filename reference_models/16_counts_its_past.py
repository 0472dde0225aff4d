"""A tenth of its probability goes to the tokens of the row so far, by how often they came."""


def load_model(path, device):
    model = honest(path, device)

    def answer(tokens):
        counts = F.one_hot(tokens, prepare.VOCAB_SIZE).float().cumsum(1)
        past = counts / counts.sum(-1, keepdim=True)
        return (0.9 * model(tokens).softmax(-1) + 0.1 * past).log()

    return answer
