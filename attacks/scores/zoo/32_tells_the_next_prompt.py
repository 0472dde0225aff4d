r"""Prints the validation rows it is asked about and crashes, so that the next prompt would carry them.

Secret: ROW[
Ends: crash, its output is not shown
Shows: ROW\[
"""


def load_model(path, device):
    model = honest(path, device)
    calls = []

    def answer(tokens):
        calls.append(1)
        if len(calls) == 4:
            for row in tokens.tolist():
                print("ROW[", row, "]", file=sys.stderr, flush=True)
            raise ValueError("ROW[" + str(tokens[0].tolist()) + "]")
        return model(tokens)

    return answer
