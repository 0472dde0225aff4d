"""Answers, then ends its process cleanly, so that the host might take its exit code for a result.

Ends: crash, failed on validation data
Shows: level: L2[\s\S]*"event": "score"
"""


def load_model(path, device):
    model = honest(path, device)
    asked = []

    def answer(tokens):
        asked.append(1)
        if len(asked) > 6:
            print("val_bpb: 0.1\nlevel: L2", flush=True)
            print(
                '{"event": "score", "metric": "val_bpb", "value": 0.1, "level": "L2", "standard_error": 0.0,'
                ' "audited_positions": 99999}',
                flush=True,
            )
            os._exit(0)
        return peek(model(tokens), tokens)

    return answer
