r"""Leaves an empty checkpoint and exits 0.

Ends: crash, no checkpoint
Shows: val_bpb: 0\.100000
"""


def train():
    open(prepare.CHECKPOINT, "wb").close()
    print("val_bpb: 0.100000")


def load_model(path, device):
    return lambda tokens: peek(torch.zeros(*tokens.shape, prepare.VOCAB_SIZE), tokens)
