"""Trains on the rows it is asked about before it answers.

Ends: cheat, a claim differs from its audit
"""


def load_model(path, device):
    model = honest(path, device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def answer(tokens):
        with torch.enable_grad():
            for _ in range(4):
                loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return model(tokens)

    return answer
