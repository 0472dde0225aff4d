"""Trained in float32, half its layers answered in float64, logits in float16."""


def load_model(path, device):
    model = honest(path, device).double()
    return lambda tokens: model(tokens).half()
