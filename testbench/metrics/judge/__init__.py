"""The judge: an LM behind an OpenAI-compatible gateway, its answers, its cache and its costs."""
