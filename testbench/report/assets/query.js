// Which rows are shown and in which order, and how the address of the page says so.

const SORTS = {
  order: "As run",
  verdict: "Worst verdict first",
  score: "Lowest score first",
  "-score": "Highest score first",
  "-latency": "Slowest first",
  latency: "Fastest first",
  delta: "Most worsened first",
  "-delta": "Most improved first",
};
const SEVERITY = { error: 0, fail: 1, skipped: 2, unjudged: 3, pass: 4 };

class Query {
  constructor() {
    this.clear();
  }

  clear() {
    Object.assign(this, { text: "", verdicts: new Set(), changes: new Set(), metric: "", sort: "order", step: "" });
  }

  get filters() {
    return Boolean(this.text || this.verdicts.size || this.changes.size || this.metric);
  }

  /** Read from the part of the address after `#`. */
  static fromAddress(hash) {
    const given = new URLSearchParams(hash.replace(/^#/, ""));
    const list = (name) => new Set((given.get(name) ?? "").split(",").filter(Boolean));
    return Object.assign(new Query(), {
      text: given.get("q") ?? "",
      verdicts: list("verdict"),
      changes: list("change"),
      metric: given.get("metric") ?? "",
      sort: given.get("sort") ?? "order",
      step: given.get("step") ?? "",
    });
  }

  toAddress() {
    const entries = {
      step: this.step,
      q: this.text,
      verdict: [...this.verdicts].join(","),
      change: [...this.changes].join(","),
      metric: this.metric,
      sort: this.sort === "order" ? "" : this.sort,
    };
    const used = Object.entries(entries).filter(([, value]) => value);
    return used.length ? `#${new URLSearchParams(used)}` : "#";
  }
}

/** The rows that fit, in order; `haystacks` only where something is searched for. */
function selectRows(store, query, haystacks) {
  const metric = store.metrics.findIndex(({ name }) => name === query.metric);
  const words = query.text.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [];
  for (let row = 0; row < store.count; row++) {
    const verdict = metric < 0 ? store.verdict(row) : store.result(row, metric);
    if (verdict === null) continue;
    if (query.verdicts.size && !query.verdicts.has(verdict)) continue;
    if (query.changes.size && !query.changes.has(store.change(row))) continue;
    if (words.length && !words.every((word) => haystacks[row].includes(word))) continue;
    rows.push(row);
  }
  return sortRows(store, query, metric, rows);
}

function sortRows(store, query, metric, rows) {
  const descending = query.sort.startsWith("-");
  const key = query.sort.replace(/^-/, "");
  const column = key.startsWith("m:") ? store.metrics.findIndex(({ name }) => name === key.slice(2)) : metric;
  const value = {
    verdict: (row) => SEVERITY[metric < 0 ? store.verdict(row) : store.result(row, metric)],
    score: (row) => (metric < 0 ? store.lowestScore(row) : store.score(row, metric)),
    latency: (row) => store.index.latency[row],
    delta: (row) => store.index.delta[row],
  }[key] ?? (key.startsWith("m:") && column >= 0 ? (row) => store.score(row, column) : null);
  if (!value) return rows;
  const values = new Map(rows.map((row) => [row, value(row)]));
  return rows.sort((a, b) => {
    const left = values.get(a), right = values.get(b);
    if (left === null || right === null) return (left === null) - (right === null) || a - b;
    return (descending ? right - left : left - right) || a - b;
  });
}
