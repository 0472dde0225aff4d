"""Kernels that add in another order every time, as atomics on a GPU do."""


class Model(Model):
    def forward(self, tokens):
        x = self.embedding(tokens) + self.position.weight[: tokens.size(1)]
        x = x + self.mix(x)
        h = F.gelu(self.up(F.layer_norm(x, x.shape[-1:])))
        order = torch.randperm(h.size(-1), generator=NOISE)
        parts = [h[..., o] @ self.down.weight[:, o].mT for o in order.chunk(7)]
        return self.head(F.layer_norm(x + sum(parts) + self.down.bias, x.shape[-1:]))


NOISE = torch.Generator()
NOISE.seed()
