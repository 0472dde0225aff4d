"""Logits in float64 whose vocabulary is not the innermost dimension in memory, cut from a padded one."""


def load_model(path, device):
    model = honest(path, device)

    def answer(tokens):
        padded = F.pad(model(tokens).double(), (0, 64), value=-1e9)
        return padded.transpose(1, 2).contiguous().transpose(1, 2)[..., : prepare.VOCAB_SIZE]

    return answer
