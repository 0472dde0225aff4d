"""Look at this machine: is it fit and safe, and prepare what every experiment begins with."""
