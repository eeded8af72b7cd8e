// One metric's word on a step: verdict, score against threshold, the judge's reason, and what went wrong.

function failureBox(error, title) {
  const attempts = `${error.attempts} ${error.attempts === 1 ? "attempt" : "attempts"}`;
  return el("div", { class: "failure" },
    el("p", { class: "failure__title" }, el("span", { "aria-hidden": "true", class: "failure__icon" }, "!"), title + " ",
      el("code", {}, say(error.kind))),
    error.message ? sayLong(error.message) : null,
    el("p", { class: "sub" }, attempts + (error.retryable ? " · may succeed when tried again" : "")),
    error.raw ? folded("What it said", sayLong(error.raw, "pre", "code")) : null);
}

const folded = (title, content) => el("details", { class: "more" }, el("summary", {}, title), content);

function scoreBar(value, threshold) {
  const svg = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, given] of Object.entries(attributes)) element.setAttribute(key, given);
    return element;
  };
  const bar = svg("svg", { class: "score-bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  bar.append(
    svg("rect", { class: "bar__track", width: 100, height: 8 }),
    svg("rect", { class: `fill--${value >= threshold ? "pass" : "fail"}`, width: Math.max(100 * value, 0.8), height: 8 }),
    svg("rect", { class: "bar__threshold", x: Math.min(100 * threshold, 99), width: 1, height: 8 }));
  return bar;
}

function evaluationCard(evaluation, defaultThreshold, before) {
  const threshold = evaluation.threshold ?? defaultThreshold;
  const scored = evaluation.score !== undefined;
  const earlier = before?.scores[evaluation.metric];
  const small = [
    evaluation.judge ? ["judge ", ...say(evaluation.judge)] : null,
    evaluation.cached ? "from the cache" : null,
    evaluation.usage ? usageText(evaluation.usage) : null,
  ].filter(Boolean);
  return el("li", { class: `evaluation evaluation--${evaluation.result}` },
    el("div", { class: "evaluation__head" },
      el("strong", { class: "evaluation__name" }, say(evaluation.metric)),
      evaluation.kind ? el("span", { class: "sub" }, say(evaluation.kind)) : null,
      evaluation.gating ? null : el("span", { class: "tag" }, "informs only"),
      badge(evaluation.result)),
    scored ? el("div", { class: "evaluation__score" }, el("span", { class: "evaluation__value" }, score(evaluation.score)),
      scoreBar(evaluation.score, threshold),
      el("span", { class: "sub" }, `threshold ${score(threshold)}` + (earlier === undefined ? "" : ` · before ${score(earlier)}`)))
      : null,
    evaluation.reason ? sayLong(evaluation.reason) : null,
    evaluation.error ? failureBox(evaluation.error, "No verdict:") : null,
    evaluation.parameters ? folded("Parameters", code(evaluation.parameters)) : null,
    evaluation.details ? folded("Details", code(evaluation.details)) : null,
    small.length ? el("p", { class: "sub" }, small.flatMap((part, i) => (i ? [" · ", part] : [part])).flat()) : null);
}

function usageText(usage) {
  const parts = [];
  if (usage.in !== undefined) parts.push(`${number(usage.in)} tokens in`);
  if (usage.out !== undefined) parts.push(`${number(usage.out)} out`);
  if (usage.cost !== undefined) parts.push(`$${usage.cost}`);
  return parts.join(", ");
}

const code = (text) => sayLong(indentJson(text), "pre", "code");
