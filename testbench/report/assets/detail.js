// An opened row: conversation and verdicts side by side, reference against answer, and where it all came from.

function openedRow(store, row, detail, earlier) {
  const whole = store.isWhole(row);
  return el("div", { class: "detail" },
    el("div", { class: "detail__main" },
      el("section", { class: "detail__part", "aria-label": "Conversation" },
        el("h3", {}, "Conversation"), conversation(detail, earlier, whole)),
      whole ? null : comparisonPart(detail)),
    el("div", { class: "detail__side" },
      el("section", { class: "detail__part", "aria-label": "Verdicts" },
        el("h3", {}, "Verdicts"), before(store, row, detail), verdicts(store, detail)),
      el("section", { class: "detail__part", "aria-label": "Where it came from" },
        el("h3", {}, "Where it came from"), facts(store, row, detail))));
}

function verdicts(store, detail) {
  if (!detail.evaluations.length) return el("p", { class: "sub" }, "No metric was asked for.");
  return el("ul", { class: "evaluations" },
    detail.evaluations.map((evaluation) => evaluationCard(evaluation, store.index.defaultThreshold, detail.before)));
}

function before(store, row, detail) {
  const change = store.change(row);
  if (!change) return null;
  const delta = store.index.delta[row];
  return el("p", { class: "before" }, changeTag(change, delta),
    detail.before ? [" before: ", badge(detail.before.verdict)] : " not part of the baseline");
}

function comparisonPart(detail) {
  const reference = detail.reference;
  if (!reference) return null;
  const part = el("section", { class: "detail__part", "aria-label": "Expected and answered" }, el("h3", {}, "Expected and answered"));
  if (reference.response !== undefined) part.append(...texts(reference.response, detail.answer));
  if (reference.calls) {
    part.append(el("h4", {}, "Expected tool calls"),
      reference.calls.length ? el("div", { class: "calls" }, reference.calls.map(toolCall)) : el("p", { class: "sub" }, "none"));
  }
  if (reference.topics) part.append(el("h4", {}, "Expected topics"), el("p", {}, reference.topics.map((topic) => el("span", { class: "tag" }, say(topic)))));
  for (const [key, title] of [["retrieved_contexts", "Retrieved contexts"], ["reference_contexts", "Reference contexts"]]) {
    if (reference[key]) part.append(folded(`${title} (${reference[key].length})`, el("ol", {}, reference[key].map((text) => el("li", {}, sayLong(text))))));
  }
  if (reference.extra) part.append(folded("More of the reference", code(reference.extra)));
  return part;
}

function texts(expected, answered) {
  const beside = el("div", { class: "beside" },
    el("div", {}, el("h4", {}, "Expected"), sayLong(expected)),
    el("div", {}, el("h4", {}, "Answered"), answered === undefined ? el("p", { class: "sub" }, "no answer") : sayLong(answered)));
  if (answered === undefined) return [beside];
  const toggle = el("button", { type: "button", class: "button", "aria-pressed": "false" }, "Show differences");
  let marked = null;
  toggle.addEventListener("click", () => {
    const on = toggle.getAttribute("aria-pressed") === "false";
    toggle.setAttribute("aria-pressed", String(on));
    marked ??= differences(expected, answered);
    (on ? beside : marked).replaceWith(on ? marked : beside);
  });
  return [toggle, beside];
}

function differences(expected, answered) {
  const parts = difference(expected, answered);
  if (!parts) return el("p", { class: "sub" }, "Both texts are too long to be compared word by word.");
  if (parts.every(([kind]) => kind === "same")) return el("p", { class: "sub" }, "Both texts are the same.");
  const names = { same: "span", gone: "del", new: "ins" };
  return el("div", { class: "differences prose", dir: "auto" },
    el("p", { class: "sub" }, el("del", {}, "only expected"), " ", el("ins", {}, "only answered")),
    parts.map(([kind, text]) => el(names[kind], {}, say(text))));
}

function facts(store, row, detail) {
  const list = el("dl", { class: "small-facts" });
  const add = (label, ...content) => list.append(el("div", {}, el("dt", {}, label), el("dd", {}, content.flat())));
  const id = store.index.ids[row];
  add("Scenario", say(store.scenario(row)));
  add("Link", el("a", { href: `#${new URLSearchParams({ step: id })}`, class: "mono" }, say(id)));
  if (detail.trace_url) add("Trace", outward(detail.trace_url, "Open the trace ↗"));
  if (detail.trace_id) add("Trace id", el("span", { class: "mono" }, say(detail.trace_id)));
  if (detail.span_id) add("Span id", el("span", { class: "mono" }, say(detail.span_id)));
  if (detail.started_at) add("Started", el("span", {}, say(detail.started_at.replace("T", " ").slice(0, 19))));
  if (detail.latency_ms !== undefined) {
    const first = detail.first_token_ms === undefined ? "" : `, first words after ${duration(detail.first_token_ms)}`;
    add("Latency", duration(detail.latency_ms) + first);
  }
  if (detail.usage) add("Agent", usageText(detail.usage));
  if (detail.context_id) add("Context", el("span", { class: "mono" }, say(detail.context_id)));
  if (detail.task_id) add("Task", el("span", { class: "mono" }, say(detail.task_id)));
  if (detail.custom) add("Values", code(detail.custom));
  return list;
}
