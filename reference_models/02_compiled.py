"""torch.compile for inference."""


def load_model(path, device):
    return torch.compile(honest(path, device))
