"""Attention to the last 16 tokens only."""


class Model(Model):
    def mask(self, length):
        return super().mask(length).triu(-15)
