"""What a data generation will ask, before anything is asked: for `plan` and `--dry-run`. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Final

from testbench.arena.bundle.arena_file import arena_file_of
from testbench.arena.bundle.bundle import Bundle, named
from testbench.arena.datagen.items import Batch
from testbench.arena.datagen.reduction import first_round
from testbench.arena.datagen.rounds import counted, writers_of
from testbench.arena.datagen.seeds import seeds_of
from testbench.arena.datagen.writing import AVOIDED, SYSTEM, prompt_of
from testbench.arena.manifest.job import ArenaJob, DataGenSettings
from testbench.arena.plan.model import Plan

CHARACTERS_OF_A_TOKEN: Final = 4
"""In Latin script, about."""
A_QUESTION: Final = "x" * 60
"""As long as one usually is: requests show the model what it has already written."""


@dataclass(frozen=True)
class GenerationEstimate:
    """The first round; further ones depend on what comes of it. `input_tokens` are about so many."""

    items: int
    format: str
    writers: tuple[str, ...]
    prompts: int
    passages: int
    requests: int
    input_tokens: int


def estimate_of(job: ArenaJob, bundle: Bundle, plan: Plan) -> GenerationEstimate:
    """How much a job asks for, if nothing has to be asked again.

    Raises:
        InputError: there is nothing to generate from.
    """
    settings = job.spec.data_gen or DataGenSettings()
    seeds, writers = seeds_of(bundle, arena_file_of(job, bundle)), writers_of(plan)
    requests = first_round(plan.digest, settings.count, seeds, writers).requests
    characters = len(requests) * (len(SYSTEM) + len(json.dumps(Batch.model_json_schema())))
    known: Counter[int] = Counter()
    for request in requests:
        characters += len(prompt_of(request, seeds[request.seed], [A_QUESTION] * min(AVOIDED, known[request.seed])))
        known[request.seed] += request.size
    return GenerationEstimate(
        items=settings.count,
        format=settings.format,
        writers=writers,
        prompts=len({seed.prompt_path for seed in seeds}),
        passages=len({seed.document_path for seed in seeds} - {None}),
        requests=len(requests),
        input_tokens=characters // CHARACTERS_OF_A_TOKEN,
    )


def estimate_text(estimate: GenerationEstimate) -> str:
    """The estimate as lines of text."""
    material = counted(estimate.prompts, "prompt")
    if estimate.passages:
        material += f" with {counted(estimate.passages, 'passage')} of documents"
    return "\n".join(
        [
            f"{counted(estimate.items, 'item')} as {estimate.format}, from {material}",
            f"written by {named(estimate.writers)}",
            f"first round: {counted(estimate.requests, 'request')}, about {estimate.input_tokens:,} tokens to read;"
            " duplicates are made up for in further rounds",
        ]
    )
