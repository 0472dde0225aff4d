"""Sparse zeros, hard links and files that change while they are read, in the place of claims.

Ends: cheat, a claim differs from its audit
"""


def load_model(path, device):
    model = honest(path, device)
    harness = sys.modules["__main__"]
    write = harness.frames.write

    def odd(folder, name, data):
        write(folder, ".keep", data)
        with open(folder / ".sparse", "wb") as file:
            file.truncate(len(data))
        os.link(folder / ".sparse", folder / (name + ".hard"))
        os.rename(folder / ".sparse", folder / name)

    harness.frames.write = odd
    return model
