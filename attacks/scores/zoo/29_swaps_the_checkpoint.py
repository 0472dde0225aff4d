"""Another checkpoint for B than for A: a daemon of the trainer's, a predictor that rewrites it, a link that moves.

Ends: scored
Shows: no:
"""


def swap():
    for command in ("/out/checkpoint.pt", "/out/other.pt"):
        try:
            with open(command, "r+b") as file:
                file.write(b"\0" * 1000)
        except OSError as error:
            print("no:", error, flush=True)
    try:
        os.replace("/out/other.pt", "/out/checkpoint.pt")
    except OSError as error:
        print("no:", error, flush=True)


def train():
    torch.manual_seed(0)
    model, _ = fit(Model())
    torch.save(model.state_dict(), prepare.CHECKPOINT)
    torch.save(Model().state_dict(), "/out/other.pt")
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3)
            swap()
        os._exit(0)


def load_model(path, device):
    model = honest(path, device)
    swap()
    return model
