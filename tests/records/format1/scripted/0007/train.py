"""A train.py that keeps the contract."""

LEARNING_RATE = 0.045


def load_model(path, device):
    return lambda tokens: tokens


if __name__ == "__main__":
    print("trained", LEARNING_RATE)
