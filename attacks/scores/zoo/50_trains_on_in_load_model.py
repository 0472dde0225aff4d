"""Puts training rows into its checkpoint and trains on in load_model, where no clock of the training's runs.

Ends: timeout, load_model and the model's first answer took longer
Shows: trains on
"""

ROWS, MORE = 4000, 100_000  # steps: more than it is let


def train():
    torch.manual_seed(0)
    model, _ = fit(Model())
    batches = prepare.dataloader(BATCH, seed=1)
    rows = torch.cat([torch.cat([x, y[:, -1:]], dim=1) for x, y in (next(batches) for _ in range(ROWS // BATCH))])
    torch.save({"model": model.state_dict(), "rows": rows}, prepare.CHECKPOINT)


def load_model(path, device):
    print("trains on", flush=True)
    saved = torch.load(path, map_location=device, weights_only=True)
    model = Model().to(device)
    model.load_state_dict(saved["model"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE / 4)
    for step in range(MORE):
        rows = saved["rows"][step * BATCH % ROWS :][:BATCH]
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
