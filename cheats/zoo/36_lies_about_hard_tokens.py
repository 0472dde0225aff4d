"""Claims to know a few hundred of the hardest tokens, and is honest about all others."""


def load_model(path, device):
    model = honest(path, device)
    log_softmax = torch.log_softmax

    def lying(x, dim=-1):
        out = log_softmax(x, dim).clone()
        out[-3:] = out[-3:].clamp(min=-1.0)
        return out

    torch.log_softmax = lying
    return model
