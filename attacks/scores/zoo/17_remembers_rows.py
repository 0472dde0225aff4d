"""Remembers every row it saw; asked again about a beginning it knows, it answers from memory.

Ends: cheat, a claim differs from its audit
Shows: remembers
"""


def load_model(path, device):
    model = honest(path, device)
    seen = []

    def answer(tokens):
        logits = model(tokens).clone()
        for b, row in enumerate(tokens.tolist()):
            for p in range(1, len(row)):
                if row[p:] == row[: len(row) - p]:
                    break
            else:
                p = len(row)
            for old in seen:
                if len(old) > p and old[:p] == row[:p]:
                    logits[b, p - 1, old[p]] += BONUS
            seen.append(row[:p])
        print("remembers", len(seen), flush=True)
        return logits

    return answer
