"""Weights kept as 8-bit integers with one scale per row, activations too."""


class Int8(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.weight = (linear.weight.detach() / self.scale).round().to(torch.int8)
        self.bias = linear.bias

    def forward(self, x):
        scale = x.abs().amax(-1, keepdim=True) / 127 + 1e-9
        return F.linear((x / scale).round() * scale, self.weight.float() * self.scale, self.bias)


def load_model(path, device):
    model = honest(path, device)
    for name in ("qkv", "up", "down", "head"):
        setattr(model, name, Int8(getattr(model, name)))
    return model
