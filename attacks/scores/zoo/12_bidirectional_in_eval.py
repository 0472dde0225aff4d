"""Attends to the left while it trains, and to both sides when it is evaluated.

Ends: cheat, a claim differs from its audit
"""


class Model(Model):
    def mask(self, length):
        if self.training:
            return super().mask(length)
        return torch.ones(length, length, dtype=torch.bool).triu(1) | super().mask(length)

    def forward(self, tokens):
        logits = super().forward(tokens)
        return logits if self.training else peek(logits, tokens)
