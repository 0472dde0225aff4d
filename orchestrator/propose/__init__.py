"""Where ideas come from: an LLM, a sweep over constants, or the record of an earlier run."""
