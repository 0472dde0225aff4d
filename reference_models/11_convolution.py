"""Causal convolutions instead of attention."""


class Model(Model):
    def __init__(self):
        super().__init__()
        self.near = nn.Conv1d(WIDTH, WIDTH, 8)

    def mix(self, x):
        return self.near(F.pad(x.mT, (7, 0))).mT
