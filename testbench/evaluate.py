"""Phase 3: judge every answer with its metrics. Reads executed_experiment.json, writes evaluated_experiment.json."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbench import defaults
from testbench.cli.options import AUTO, Concurrency, ErrorBudget, Seconds, accept_stale, option
from testbench.cli.phase import Outcome, main, phase, run_async
from testbench.errors import WorkError
from testbench.safe_text import printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from testbench.metrics.console import EvaluationConclusion
    from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings
    from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment
    from testbench.schema.tracing import Tracing


def _produced(options: Mapping[str, Any]) -> Path | None:
    """Return the file that later phases read, unless nothing is judged."""
    return None if options.get("list_metrics") or options.get("dry_run") else Path(options["output"])


@phase("evaluate", produces=_produced)
@option("--model", help="Model that judges, instead of the experiment's llm_as_a_judge_model.")
@option("--embedding-model", default=defaults.EMBEDDING_MODEL, help="Model of metrics that compare by embeddings.")
@option(
    "--judge-samples",
    type=click.IntRange(1, 100),
    default=defaults.JUDGE_SAMPLES,
    help="How often each metric with an LLM judges; the score is the mean, and the spread is kept.",
)
@option(
    "--temperature",
    type=click.FloatRange(0, 2),
    default=defaults.JUDGE_TEMPERATURE,
    help="Of the judge; above 0 several samples show how sure it is.",
)
@option(
    "--concurrency",
    type=Concurrency(),
    default=defaults.JUDGE_PACE,
    metavar="N|auto",
    help="Requests to the judge in flight; auto: 8 at first, up to 64, fewer after a 429, a 503 or a timeout.",
)
@option(
    "--timeout",
    type=Seconds(),
    default=defaults.JUDGE_TIMEOUT_S,
    help="Seconds that one request to the judge may take.",
)
@option("--cache/--no-cache", default=True, help=f"Take known answers of the judge from {defaults.JUDGE_CACHE}.")
@option(
    "--prices", type=click.Path(path_type=Path), help="YAML or JSON: MODEL: {input: 2.5, output: 10} in USD per 1M."
)
@option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Stop asking before this is exceeded; the rest is skipped. Needs --prices.",
)
@click.option("--dry-run", is_flag=True, help="Show calls, tokens and the most that they can cost; ask nobody.")
@option("--fresh", is_flag=True, help="Judge all anew, whatever an earlier evaluation has left.")
@option("--retry-errors", is_flag=True, help="Judge the scenarios again that have errors, keep the others.")
@option("--fail-on-error", metavar="N|P", help="Exit 3 with more errors than this: a count, or a part as 0.05 or 5%.")
@option("--input", type=click.Path(path_type=Path), default=defaults.EXECUTED_FILE, help="What run wrote.")
@option("--output", type=click.Path(path_type=Path), default=defaults.EVALUATED_FILE, help="To write.")
@click.option("--list-metrics", is_flag=True, help="Show all metrics with their parameters, and stop.")
@accept_stale
def command(**options: Any) -> Outcome:
    """Judge every answer with its metrics.

    Metrics that need a judge ask the OpenAI-compatible endpoint that OPENAI_API_BASE (or OPENAI_BASE_URL) names, with
    the key in OPENAI_API_KEY. What could not be judged is an error in the file and never a score.

    Stopped or killed, the same command goes on where it was; with nothing left to do it does not judge again.
    """
    if options["list_metrics"]:
        return _list_metrics(as_json=options["as_json"])
    from testbench.metrics.console import conclude
    from testbench.schema.chain import made_of, read_input
    from testbench.schema.models import ExecutedExperiment

    gc.set_threshold(50_000, 20, 100)  # samples and answers are no cycles: rarely looking for some saves a tenth
    budget = ErrorBudget.parse(options["fail_on_error"]) if options["fail_on_error"] else None
    settings = _settings(options)
    experiment, note = read_input(
        options["input"], ExecutedExperiment, made_by="run", accept_stale=options["accept_stale"]
    )
    settings = replace(settings, made_of=(made_of(options["input"], options["output"]),))
    if options["dry_run"]:
        return _dry_run(experiment, settings, as_json=options["as_json"])
    evaluated, complete = _evaluate(experiment, settings, options)
    conclusion = conclude(evaluated, budget.covers if budget else lambda errors, of: True)
    earlier = evaluated.evaluation.started_at if complete and evaluated.evaluation is not None else None
    return _to_outcome(conclusion, options["output"], note, earlier=earlier, as_json=options["as_json"])


def _settings(options: dict[str, Any]) -> EvaluationSettings:
    from testbench.metrics.evaluation import EvaluationSettings
    from testbench.metrics.judge.cost import PriceList
    from testbench.net.pacing import CEILING

    adaptive = options["concurrency"] == AUTO
    return EvaluationSettings(
        model=options["model"],
        embedding_model=options["embedding_model"],
        concurrency=CEILING if adaptive else options["concurrency"],
        adaptive=adaptive,
        timeout_s=options["timeout"],
        cache=defaults.JUDGE_CACHE if options["cache"] else None,
        temperature=options["temperature"],
        judge_samples=options["judge_samples"],
        prices=PriceList.read(options["prices"]) if options["prices"] else PriceList(),
        max_cost=options["max_cost"],
    )


def _evaluate(
    experiment: ExecutedExperiment, settings: EvaluationSettings, options: dict[str, Any]
) -> tuple[EvaluatedExperiment, bool]:
    """Judge what was not judged yet, and write the output; or find that it is there already, which is the second."""
    from testbench.cli.progress import open_progress
    from testbench.metrics.evaluation import evaluate, has_errors
    from testbench.metrics.judge.judge import BASE_URLS
    from testbench.metrics.resume import resume_evaluation
    from testbench.schema.models import EvaluatedScenario

    earlier = resume_evaluation(
        experiment,
        settings,
        options["output"],
        fresh=options["fresh"],
        retry_errors=options["retry_errors"],
        base_url=next((url for name in BASE_URLS if (url := os.environ.get(name))), ""),
    )
    with earlier as finished:
        if finished.complete is not None:
            return finished.complete, True

        async def with_progress() -> EvaluatedExperiment:
            total, kept = len(experiment.scenarios), len(finished.done)
            with open_progress("evaluate", total, kept=kept, unit="scenarios", silent=options["as_json"]) as progress:

                def scenario_done(scenario: EvaluatedScenario) -> None:
                    finished.add(scenario)
                    progress.advance(failed=has_errors(scenario))

                return await evaluate(
                    experiment,
                    settings,
                    _dependencies(experiment),
                    on_scenario_done=scenario_done,
                    done=finished.done,
                    identity=finished.identity,
                )

        evaluated = run_async(with_progress())
        if not finished.write(evaluated):
            raise _nothing_scored(evaluated, options["output"])
        return evaluated, False


def _nothing_scored(evaluated: EvaluatedExperiment, output: Path) -> WorkError:
    from testbench.metrics.console import conclude

    fault = conclude(evaluated, lambda errors, of: True).fault or "not one metric has judged anything"
    return WorkError(fault, hint=f"{output} still holds the earlier evaluation; the same command judges again.")


def _dependencies(experiment: ExecutedExperiment) -> EvaluationDependencies:
    from testbench.metrics.evaluation import EvaluationDependencies

    def open_tracing() -> AbstractContextManager[Tracing]:
        from testbench.telemetry import tracing

        run = experiment.run
        return tracing.open_tracing(
            workflow_name=run.workflow_name if run else defaults.WORKFLOW_NAME,
            agent_url=run.agent_url if run else "",
        )

    return EvaluationDependencies(os.environ, open_tracing=open_tracing)


def _dry_run(experiment: ExecutedExperiment, settings: EvaluationSettings, *, as_json: bool) -> Outcome:
    from testbench.metrics.console import estimate_data, format_estimate
    from testbench.metrics.estimate import estimate

    found = run_async(estimate(experiment, settings, _dependencies(experiment)))
    if not as_json:
        click.echo("\n".join(format_estimate(found, settings.max_cost)))
    calls = found.calls + found.embedding_calls
    return Outcome(f"dry run: {calls} calls would be made, none was", estimate_data(found))


def _to_outcome(
    conclusion: EvaluationConclusion, output: Path, note: str, *, earlier: datetime | None, as_json: bool
) -> Outcome:
    from testbench.metrics.console import format_table, metric_data
    from testbench.schema.chain import append_note, describe_earlier

    if not as_json:
        click.echo(format_table(conclusion.summary))
    if conclusion.fault is not None:
        click.echo(f"error: {printable(conclusion.fault)}", err=True)
        click.echo(f"hint: {conclusion.hint}", err=True)
    data = {
        "output": str(output),
        "already_complete": earlier is not None,
        "fault": conclusion.fault,
        "evaluations": vars(conclusion.summary.evaluations),
        "metrics": [metric_data(metric) for metric in conclusion.summary.metrics],
        "judge_usage": conclusion.summary.judge_usage.model_dump(exclude_none=True),
    }
    sentence = f"{conclusion.sentence} -> {output}"
    if earlier is not None:
        errors = conclusion.summary.evaluations.errors
        sentence = append_note(
            f"already complete: {sentence}", describe_earlier(earlier, errors, "evaluations in error")
        )
    return Outcome(append_note(sentence, note), data, conclusion.exit_code)


def _list_metrics(*, as_json: bool) -> Outcome:
    from testbench.metrics.catalogue import format_specs, spec_data
    from testbench.metrics.registry import GenericMetricsRegistry, missing_extras

    specs = GenericMetricsRegistry().specs()
    if not as_json:
        click.echo(format_specs(specs))
        for name, install in missing_extras().items():
            click.echo(f"metrics of {name} are not installed: {install}")
    frameworks = {spec.framework for spec in specs}
    return Outcome(f"{len(specs)} metrics of {len(frameworks)} frameworks", {"metrics": list(map(spec_data, specs))})


if __name__ == "__main__":
    sys.exit(main(command))
