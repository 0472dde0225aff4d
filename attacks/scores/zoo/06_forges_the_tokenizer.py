"""Forges the tokenizer and the table of byte lengths, so that each token seems to cover a hundred bytes.

Ends: scored
Shows: wrote .*/tmp/tokenizer.json
"""

import json

wrote = []
for folder in ("/data/tokenizer", "/out", "/tmp"):
    for name in ("tokenizer.json", "manifest.json", "row_bytes.npy"):
        try:
            with open(os.path.join(folder, name), "w") as file:
                json.dump({"pattern": ".", "tokens": ["A" * 400] * 511}, file)
            wrote.append(file.name)
        except OSError:
            pass
print("wrote", wrote, flush=True)
prepare.Tokenizer.byte_lengths = lambda self: np.full(prepare.VOCAB_SIZE, 100)
prepare.Tokenizer.token_bytes = lambda self: [b"x" * 100] * prepare.VOCAB_SIZE
