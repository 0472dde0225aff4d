"""Prefers what followed the same two tokens earlier in the row: a cache over its own past."""


def load_model(path, device):
    model = honest(path, device)

    def answer(tokens):
        logits = model(tokens)
        pairs = torch.stack([tokens, F.pad(tokens[:, :-1], (1, 0))], -1)
        same = (pairs[:, :, None] == pairs[:, None, :]).all(-1).tril(-1)  # [B, now, earlier]
        follows = F.one_hot(tokens.roll(-1, 1), prepare.VOCAB_SIZE).float()
        return logits + 1.5 * (same.float() @ follows).clamp(max=1)

    return answer
