// A conversation as people know it: who said what, with tool calls and their results in between.

const SPEAKERS = { human: "User", agent: "Agent", tool: "Tool result" };

function bubbles(detail) {
  return (detail.turns ?? []).map((turn) => el("li", { class: `bubble bubble--${turn.type}` },
    el("p", { class: "bubble__who" }, SPEAKERS[turn.type]),
    turn.content === undefined ? null
      : turn.type === "tool" ? code(turn.content) : sayLong(turn.content),
    (turn.calls ?? []).map(toolCall),
    turn.extra ? folded("More", code(turn.extra)) : null));
}

function toolCall(call) {
  return el("div", { class: "call" },
    el("p", { class: "call__name" }, el("span", { class: "sub" }, "calls "), el("code", {}, say(call.name))),
    call.args === "{}" ? el("p", { class: "sub" }, "no arguments") : code(call.args));
}

/** The conversation of a row: what was said before is folded away, except for a whole conversation. */
function conversation(detail, earlier, whole) {
  const list = el("ol", { class: "conversation" });
  const said = earlier.map((step) => bubbles(step)).flat();
  if (whole) list.append(...said);
  else if (said.length) {
    const item = el("li", { class: "conversation__earlier" });
    item.append(el("button", { type: "button", class: "button button--quiet", onclick: () => item.replaceWith(...said) },
      `Show ${said.length} earlier ${said.length === 1 ? "message" : "messages"}`));
    list.append(item);
  }
  list.append(...bubbles(detail));
  if (detail.status === "skipped") list.append(el("li", { class: "conversation__note" }, "Skipped: an earlier step of this conversation failed."));
  if (detail.error) list.append(el("li", {}, failureBox(detail.error, "The agent did not answer:")));
  if (!list.children.length) list.append(el("li", { class: "conversation__note" }, "Nothing was said."));
  return list;
}
