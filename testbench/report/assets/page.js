// The page comes alive: data in, controls wired, address and keyboard obeyed.

const PRINTED_ROWS = 2000;

class Page {
  constructor(store) {
    this.store = store;
    this.query = Query.fromAddress(location.hash);
    this.table = new Table(store, {
      opened: (row) => this.say({ step: row === null ? "" : store.index.ids[row] }, false),
      sort: (key) => this.say({ sort: key }),
    });
    this.charts = new Charts(store);
  }

  async start() {
    byId("boot").hidden = true;
    byId("app").hidden = false;
    this.controls();
    this.keyboard();
    this.theme();
    this.printing();
    addEventListener("hashchange", () => { this.query = Query.fromAddress(location.hash); this.update(true); });
    this.charts.draw();
    await this.update(true);
    document.documentElement.dataset.ready = "true";
    setTimeout(() => this.store.searchable(), 300);
  }

  /** Change the query; the address follows, and with `redraw` the table. */
  say(change, redraw = true) {
    Object.assign(this.query, change);
    history.replaceState(null, "", this.query.toAddress());
    if (redraw) this.update(false);
  }

  async update(follow) {
    this.reflect();
    const turn = (this.turn = Symbol("the latest update wins"));
    if (this.query.text && !this.indexed) byId("found").textContent = "Searching…";
    const haystacks = this.query.text ? await this.store.searchable() : null;
    if (turn !== this.turn) return;
    this.indexed ||= haystacks !== null;
    const rows = selectRows(this.store, this.query, haystacks);
    this.table.show(rows, this.query);
    byId("found").textContent = `${number(rows.length)} of ${number(this.store.count)} ${this.store.count === 1 ? "row" : "rows"}`;
    byId("empty").hidden = rows.length > 0;
    byId("grid").hidden = rows.length === 0;
    byId("clear").hidden = !this.query.filters;
    document.documentElement.dataset.found = String(rows.length);
    if (follow && this.query.step) await this.follow(this.query.step);
  }

  /** Open the row that the address names, even where a filter hides it. */
  async follow(id) {
    const row = this.store.rowOf.get(id);
    if (row === undefined) { byId("found").textContent += ` · no row ${plain(id)}`; return; }
    if (!this.table.placeOf.has(row)) {
      this.query.clear();
      this.say({ step: id }, false);
      await this.update(false);
    }
    this.table.go(row, true);
    await this.table.open(row);
    this.table.go(row, true);
  }

  // --- controls ---

  controls() {
    const metric = byId("metric");
    metric.append(el("option", { value: "" }, "All metrics"), ...this.store.metrics.map(({ name }) => el("option", { value: name }, plain(name))));
    metric.addEventListener("change", () => this.say({ metric: metric.value, verdicts: new Set() }));
    const sort = byId("sort");
    const useful = Object.entries(SORTS).filter(([key]) => this.store.index.compared || !key.endsWith("delta"));
    sort.append(...useful.map(([key, label]) => el("option", { value: key }, label)));
    sort.addEventListener("change", () => this.say({ sort: sort.value }));
    let typing = 0;
    byId("search").addEventListener("input", ({ target }) => {
      clearTimeout(typing);
      typing = setTimeout(() => this.say({ text: target.value.trim() }), 120);
    });
    byId("clear").addEventListener("click", () => {
      this.say({ text: "", verdicts: new Set(), changes: new Set(), metric: "" });
      byId("search").focus();
    });
  }

  /** Show the query on the controls. */
  reflect() {
    const { query, store } = this;
    if (byId("search").value.trim() !== query.text) byId("search").value = query.text;
    byId("metric").value = query.metric;
    const sort = byId("sort");
    sort.querySelector("option[data-column]")?.remove();
    if (!SORTS[query.sort]) sort.append(el("option", { value: query.sort, "data-column": true }, plain(query.sort.replace(/^-?m:/, "By "))));
    sort.value = query.sort;
    this.chips("verdicts", this.verdictCounts(), query.verdicts, (word) => [badge(word)]);
    byId("changes").hidden = !store.index.compared;
    if (store.index.compared) {
      const counts = countWords(store.index.change, CHANGES);
      this.chips("changes", ["worse", "better", "changed", "new", "same"].map((word) => [word, counts.get(word) ?? 0]),
        query.changes, (word) => [changeTag(word, null)]);
    }
  }

  verdictCounts() {
    const metric = this.store.metrics.find(({ name }) => name === this.query.metric);
    const counts = countWords(metric ? metric.results : this.store.index.verdict, CODES);
    return ["pass", "fail", "error", metric ? "skipped" : "unjudged"].map((word) => [word, counts.get(word) ?? 0]);
  }

  chips(id, counts, chosen, label) {
    const group = byId(id);
    const focused = document.activeElement?.dataset?.word;
    group.replaceChildren(...counts.map(([word, count]) => el("button", {
      type: "button", class: "chip", "aria-pressed": String(chosen.has(word)), "data-word": word,
      onclick: () => {
        chosen[chosen.has(word) ? "delete" : "add"](word);
        this.say({});
      },
    }, label(word), el("span", { class: "chip__count" }, number(count)))));
    if (focused) group.querySelector(`[data-word="${CSS.escape(focused)}"]`)?.focus();
  }

  // --- keyboard, theme, paper ---

  keyboard() {
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
      if (event.key === "Escape") { this.escape(typing); return; }
      if (typing) {
        if (event.key === "Enter" && document.activeElement.id === "search") this.table.move(1);
        return;
      }
      const action = { j: () => this.table.move(1), k: () => this.table.move(-1), "/": () => byId("search").focus() }[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    });
  }

  escape(typing) {
    const { table } = this;
    if (typing) document.activeElement.blur();
    else if (table.details.has(table.current)) { table.close(table.current); table.go(table.current); }
    else if (table.details.size) [...table.details.keys()].forEach((row) => table.close(row));
  }

  theme() {
    const button = byId("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
    const label = () => { button.textContent = isDark() ? "☀ Light" : "☾ Dark"; };
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      label();
      this.charts.draw();
    });
    dark.addEventListener("change", () => { label(); this.charts.draw(); });
  }

  printing() {
    let theme;
    addEventListener("beforeprint", () => {
      theme = document.documentElement.dataset.theme;
      document.documentElement.dataset.theme = "light";
      this.charts.draw();
      this.table.print(PRINTED_ROWS);
      const left = this.table.rows.length - PRINTED_ROWS;
      if (left > 0) byId("found").textContent += ` · the first ${number(PRINTED_ROWS)} are printed; filter to print others`;
    });
    addEventListener("afterprint", () => {
      if (theme === undefined) delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = theme;
      this.table.printed();
      this.charts.draw();
      this.update(false);
    });
  }
}

function countWords(codes, words) {
  const counts = new Map();
  for (const letter of codes) counts.set(words[letter], (counts.get(words[letter]) ?? 0) + 1);
  return counts;
}

document.documentElement.classList.add("scripted");
byId("boot").hidden = false;
requestAnimationFrame(() => Store.open().then((store) => new Page(store).start()).catch((error) => {
  byId("boot").textContent = `The rows cannot be shown: ${error.message}. A newer browser may help.`;
  throw error;
}));
