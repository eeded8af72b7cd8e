"""Models behind an OpenAI-compatible gateway: for judges (`metrics.judge`) and systems under test (`arena.targets`).

gateway      one client for chat completions and embeddings
completion   from the bytes of a reply, whole or streamed, to what the model said and what it cost
options      what is asked for beside the messages, and what a gateway that refuses some of it is sent instead
faults       why there is no reply, as one error that each of its two users makes its own error of
"""
