"""What the audit of a score can do, by simulation: bias, false refusals, and the chance to catch a lie of 0.001 bpb.

    .venv/bin/python -m tests.soak.audit_power [TRIALS]

It uses the scorer's own arithmetic (locked/estimator.py) and the sizes and thresholds of task.toml, on a model whose
log-probabilities are gamma distributed. The liar wants 0.001 bpb over the whole set, in one of four shapes; the last
is the best a liar can do: it takes the hardest tokens and claims to be certain of as few of them as it needs, here for
0.001 and for 0.005 bpb.
"""

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "locked"), str(ROOT / "orchestrator/runtime")]
import estimator  # noqa: E402

LIE_BPB = 0.001
SHAPES = ("everywhere", "a tenth", "late in the row", "the hardest tokens", "the hardest, 5 times")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One profile's evaluation: targets, raw bytes, width of a row, and what honest arithmetic differs by."""

    name: str
    targets: int
    bytes: int
    width: int
    noise_nats: float
    ks: tuple[int, int]
    thresholds: estimator.Thresholds

    @property
    def lie_nats(self) -> float:
        """What the lie must add up to."""
        return LIE_BPB * self.bytes * float(np.log(2))


def settings() -> list[Setting]:
    """Both profiles, with the sizes of task.toml; bytes and noise as measured on cpu, assumed on gpu."""
    profile = tomllib.loads((ROOT / "task.toml").read_text(encoding="utf-8"))["profile"]
    known = {"cpu": (32_768, 64_403, 128, 1e-6), "gpu": (2_097_152, 9_400_000, 2048, 0.02)}
    return [
        Setting(
            name=name, targets=targets, bytes=size, width=width, noise_nats=noise,
            ks=(profile[name]["small_k"], profile[name]["large_k"]),
            thresholds=estimator.Thresholds(
                cap_nats=profile[name]["audit_cap"], floor_nats=profile[name]["audit_floor"]
            ),
        )
        for name, (targets, size, width, noise) in known.items()
    ]  # fmt: skip


def gains(shape: str, true: np.ndarray, setting: Setting, generator: np.random.Generator) -> np.ndarray:
    """What is added to each claim: float64 [M], in nats, `setting.lie_nats` in all."""
    gain, wanted = np.zeros(true.size), setting.lie_nats * (5 if "5 times" in shape else 1)
    if shape == "everywhere":
        gain[:] = wanted / true.size
    elif shape == "a tenth":
        gain[generator.choice(true.size, true.size // 10, replace=False, shuffle=False)] = wanted / (true.size // 10)
    elif shape == "late in the row":
        late = np.arange(true.size) % setting.width >= setting.width - setting.width // 16
        gain[late] = wanted / late.sum()
    else:
        hardest = np.argsort(true)[: 1 + int(wanted)]
        needed = 1 + int(np.searchsorted(np.cumsum(-true[hardest]), wanted))
        gain[hardest[:needed]] = -true[hardest[:needed]]
    return gain


def audits(true: np.ndarray, gain: np.ndarray, k: int, setting: Setting, trials: int) -> tuple[float, float, float]:
    """Share refused, mean error of the estimate over all trials and its own error, in bpb."""
    generator = np.random.default_rng(k)
    refused, errors = 0, []
    per_byte = true.size / np.log(2) / setting.bytes
    for _ in range(trials):
        at = generator.choice(true.size, k, replace=False, shuffle=False)
        noise = generator.normal(0, setting.noise_nats, (2, k))
        claimed, audited = true[at] + gain[at] + noise[0], true[at] + noise[1]
        refused += bool(estimator.refusal(claimed, audited, setting.thresholds))
        errors.append(-(gain.mean() + (audited - claimed).mean()) * per_byte)
    return refused / trials, float(np.mean(errors)), float(np.std(errors) / trials**0.5)


def main() -> None:
    """Print one line for each profile, K and shape."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    print(f"{'profile':8}{'K':>7}  {'claims':20}{'refused':>9}{'mean error of the score, bpb':>34}")
    false_refusals = 0.0
    for setting in settings():
        generator = np.random.default_rng(0)
        true = -generator.gamma(2.0, 1.2, setting.targets)
        lies = {shape: gains(shape, true, setting, generator) for shape in SHAPES}
        for k in setting.ks:
            for shape, gain in {"honest": np.zeros_like(true), **lies}.items():
                share, bias, error = audits(true, gain, k, setting, trials)
                print(f"{setting.name:8}{k:7}  {shape:20}{share:9.1%}{bias:+22.6f} ± {error:.6f}", flush=True)
                false_refusals += share if shape == "honest" else 0.0
    print(f"audit power: {trials} audits of each, {false_refusals:.1%} of honest ones refused")


if __name__ == "__main__":
    main()
