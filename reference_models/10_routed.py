"""A mixture of experts that routes every token for itself, with no capacity to run out of."""


class Model(Model):
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(WIDTH, 4)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def mix(self, x):
        x = x + super().mix(x)
        gates = self.router(F.layer_norm(x, x.shape[-1:])).softmax(-1)
        chosen = F.one_hot(gates.argmax(-1), 4) * gates
        return sum(chosen[..., i, None] * expert(x) for i, expert in enumerate(self.experts))
