"""`make gpu-day`: what the product is worth on a GPU, measured within the minutes that one is lent for.

Runs in any Python that has torch and numpy, without an engine or a network: `make gpu-kit` packs what it needs.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CARRIED = ROOT / "carried"  # packages from a kit; what the machine has itself comes first

if CARRIED.is_dir() and str(CARRIED) not in sys.path:
    sys.path.append(str(CARRIED))
