"""A recurrent model: GRU."""


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(prepare.VOCAB_SIZE, WIDTH)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, prepare.VOCAB_SIZE)

    def forward(self, tokens):
        return self.head(self.gru(self.embedding(tokens))[0])
