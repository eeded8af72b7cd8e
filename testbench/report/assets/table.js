// The table of rows: only what is in sight is in the page, so that 20,000 rows scroll like 20.

const WIDE = 1200; // pixels of table from which on more metrics have a column
const BEYOND = 600; // pixels above and below the window that are kept ready
const FEWEST = 12; // rows that are there even while the table is out of sight, for whoever does not look at a screen

function changeTag(change, delta) {
  const words = { better: "▲ better", worse: "▼ worse", changed: "◆ changed", same: "= same", new: "+ new" };
  const amount = delta === null || Math.abs(delta) < 0.005 ? "" : ` ${delta > 0 ? "+" : "−"}${Math.abs(delta).toFixed(2)}`;
  return el("span", { class: `change-tag change-tag--${change}` }, words[change] + amount);
}

/** What sets a row apart: quarantine, and which repetition it is of how many that passed. */
function rowTags(store, row) {
  const label = store.index.label[row];
  return [
    store.inQuarantine(row) ? el("span", { class: "tag tag--quarantine" }, "quarantine, not counted") : null,
    label === null ? null : el("span", { class: "tag" }, `run ${store.index.repetition[row]} · ${label} passed`),
  ];
}

class Table {
  constructor(store, events) {
    this.store = store;
    this.events = events; // { opened(row | null), sort(key) }
    this.grid = byId("grid");
    this.head = byId("head");
    this.body = byId("body");
    this.rows = [];
    this.placeOf = new Map();
    this.lines = new Map(); // row -> its element, while in sight
    this.details = new Map(); // row -> the opened part
    this.heights = new Map(); // row -> height of the opened part
    this.current = -1;
    this.printing = false;
    this.sizes = new ResizeObserver((entries) => this.measured(entries));
    addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("resize", () => this.draw(), { passive: true });
  }

  // --- what is shown ---

  show(rows, query) {
    this.rows = rows;
    this.placeOf = new Map(rows.map((row, place) => [row, place]));
    this.metrics = this.columns(query);
    this.grid.style.setProperty("--metrics", String(Math.max(1, this.metrics.length)));
    this.grid.classList.toggle("grid--no-metrics", !this.metrics.length);
    this.grid.classList.toggle("grid--compared", this.store.index.compared);
    this.grid.setAttribute("aria-rowcount", String(rows.length + 1));
    this.head.replaceChildren(this.headLine(query));
    this.lines.forEach((line) => line.remove());
    this.lines.clear();
    if (!this.placeOf.has(this.current)) this.current = -1;
    this.draw();
  }

  columns(query) {
    const all = this.store.metrics.map((_, i) => i);
    const chosen = this.store.metrics.findIndex(({ name }) => name === query.metric);
    return (chosen < 0 ? all : [chosen, ...all.filter((i) => i !== chosen)]).slice(0, this.grid.clientWidth >= WIDE ? 6 : 4);
  }

  headLine(query) {
    const header = (label, key, className, title) => {
      const active = query.sort.replace(/^-/, "") === key;
      const direction = !active ? "none" : query.sort.startsWith("-") ? "descending" : "ascending";
      const next = active && direction === "ascending" ? `-${key}` : key;
      const arrow = { none: "", ascending: " ↑", descending: " ↓" }[direction];
      return el("div", { role: "columnheader", class: className, "aria-sort": direction },
        el("button", { type: "button", class: "grid__sort", title, onclick: () => this.events.sort(next) },
          el("span", { class: "grid__sort-label" }, label), arrow));
    };
    return el("div", { role: "row", class: "line line--head", "aria-rowindex": "1" },
      header("Verdict", "verdict", "line__verdict"),
      header("#", "order", "line__number", "As run"),
      el("div", { role: "columnheader", class: "line__question" }, "Scenario and question"),
      this.metrics.map((metric) => {
        const name = this.store.metrics[metric].name;
        return header(plain(name.split(".").pop()), `m:${name}`, "line__score", plain(name));
      }),
      this.store.index.compared ? header("Change", "delta", "line__change") : null,
      header("Latency", "latency", "line__latency"));
  }

  line(row) {
    const { store } = this;
    const latency = store.index.latency[row];
    const position = store.index.position[row];
    const where = position === null ? "" : ` · step ${position + 1}`;
    const open = el("button", { type: "button", class: "line__open", "aria-expanded": String(this.details.has(row)), onclick: () => this.toggle(row) },
      el("span", { class: "line__scenario" }, rowTags(store, row), say(store.scenario(row)), where),
      el("span", { class: `line__title${position === null ? " line__title--whole" : ""}`, dir: "auto" }, say(store.index.title[row])));
    const line = el("div", { role: "row", class: `line line--${store.verdict(row)}`, "aria-rowindex": String(this.placeOf.get(row) + 2) },
      el("div", { role: "cell", class: "line__verdict" }, badge(store.verdict(row))),
      el("div", { role: "cell", class: "line__number" }, number(row + 1)),
      el("div", { role: "cell", class: "line__question" }, open),
      this.metrics.map((metric) => this.scoreCell(row, metric)),
      store.index.compared ? el("div", { role: "cell", class: "line__change" }, changeTag(store.change(row), store.index.delta[row])) : null,
      el("div", { role: "cell", class: "line__latency" }, latency === null ? "–" : duration(latency)));
    line.classList.toggle("line--current", row === this.current);
    return line;
  }

  scoreCell(row, metric) {
    const result = this.store.result(row, metric), value = this.store.score(row, metric);
    if (result === null) return el("div", { role: "cell", class: "line__score line__score--none" }, "");
    const words = value === null ? WORDS[result].toLowerCase() : score(value);
    return el("div", { role: "cell", class: `line__score ink--${result}` },
      el("span", { "aria-hidden": "true", class: "line__icon" }, ICONS[result]),
      el("span", { class: "unseen" }, value === null ? "" : `${WORDS[result]} `), words);
  }

  // --- what is in sight ---

  get rowHeight() {
    return parseFloat(getComputedStyle(this.grid).getPropertyValue("--row"));
  }

  /** Pixels from the top of the table to the row at a place. */
  offset(place) {
    let opened = 0;
    for (const [row, height] of this.heights) if (this.placeOf.has(row) && this.placeOf.get(row) < place) opened += height;
    return place * this.rowHeight + opened;
  }

  placeAt(pixels) {
    const height = this.rowHeight;
    const opened = [...this.heights].filter(([row]) => this.placeOf.has(row))
      .map(([row, extra]) => [this.placeOf.get(row), extra]).sort((a, b) => a[0] - b[0]);
    let above = 0;
    for (const [place, extra] of opened) {
      if (pixels < (place + 1) * height + above) break;
      if (pixels < (place + 1) * height + above + extra) return place;
      above += extra;
    }
    return Math.floor((pixels - above) / height);
  }

  draw() {
    if (this.printing) return;
    const top = -this.body.getBoundingClientRect().top;
    const limit = this.rows.length;
    const first = Math.min(limit, Math.max(0, this.placeAt(top - BEYOND)));
    const last = Math.min(limit, Math.max(first + FEWEST, this.placeAt(top + innerHeight + BEYOND) + 1));
    this.fill(first, last);
    this.body.style.paddingTop = `${this.offset(first)}px`;
    this.body.style.paddingBottom = `${this.offset(limit) - this.offset(last)}px`;
  }

  fill(first, last) {
    const wanted = this.rows.slice(first, last);
    const keep = new Set(wanted);
    for (const [row, line] of this.lines) {
      if (keep.has(row)) continue;
      line.remove();
      this.details.get(row)?.remove();
      this.lines.delete(row);
    }
    let before = null;
    for (const row of wanted) {
      if (!this.lines.has(row)) this.lines.set(row, this.line(row));
      before = this.put(this.lines.get(row), before);
      if (this.details.has(row)) before = this.put(this.details.get(row), before);
    }
  }

  put(element, before) {
    const place = before ? before.nextSibling : this.body.firstChild;
    if (element !== place) this.body.insertBefore(element, place);
    return element;
  }

  measured(entries) {
    for (const { target } of entries) {
      if (target.isConnected && this.details.get(target.row) === target) this.heights.set(target.row, target.getBoundingClientRect().height);
    }
    this.draw();
  }

  // --- opening ---

  async toggle(row) {
    this.select(row);
    if (this.details.has(row)) { this.close(row); return; }
    await this.open(row);
  }

  async open(row) {
    if (this.details.has(row)) return;
    const earlier = this.store.earlier(row);
    const found = await Promise.all([row, ...earlier].map((each) => this.store.detail(each)));
    this.attach(row, openedRow(this.store, row, found[0], found.slice(1)));
    this.events.opened(row);
  }

  attach(row, content) {
    const holder = el("div", { role: "row", class: "opened" }, el("div", { role: "cell", class: "opened__cell" }, content));
    holder.row = row;
    this.details.set(row, holder);
    this.lines.get(row)?.after(holder);
    this.lines.get(row)?.querySelector(".line__open").setAttribute("aria-expanded", "true");
    this.heights.set(row, holder.getBoundingClientRect().height);
    this.sizes.observe(holder);
    this.draw();
    this.heights.set(row, holder.getBoundingClientRect().height);
    this.draw();
  }

  close(row) {
    this.sizes.unobserve(this.details.get(row));
    this.details.get(row).remove();
    this.details.delete(row);
    this.heights.delete(row);
    this.lines.get(row)?.querySelector(".line__open").setAttribute("aria-expanded", "false");
    this.events.opened(null);
    this.draw();
  }

  // --- moving ---

  select(row) {
    this.lines.get(this.current)?.classList.remove("line--current");
    this.current = row;
    this.lines.get(row)?.classList.add("line--current");
  }

  move(by) {
    if (!this.rows.length) return;
    const place = this.placeOf.has(this.current) ? this.placeOf.get(this.current) + by : by > 0 ? 0 : this.rows.length - 1;
    this.go(this.rows[Math.min(this.rows.length - 1, Math.max(0, place))]);
  }

  /** Make a row the current one, in sight and with the focus. */
  go(row, upwards = false) {
    this.select(row);
    const top = this.offset(this.placeOf.get(row)), height = this.rowHeight;
    const bodyTop = this.body.getBoundingClientRect().top + scrollY, head = this.head.offsetHeight;
    const inSight = bodyTop + top >= scrollY + head && bodyTop + top + height <= scrollY + innerHeight;
    if (!inSight || upwards) scrollTo({ top: bodyTop + top - head - 8, behavior: "instant" });
    this.draw();
    this.lines.get(row)?.querySelector(".line__open").focus({ preventScroll: true });
  }

  // --- printing ---

  /** All rows, opened, up to `limit`; what was opened before stays so afterwards. */
  print(limit) {
    this.printing = true;
    this.openedBefore = new Set(this.details.keys());
    this.body.style.paddingTop = this.body.style.paddingBottom = "0";
    const printed = this.rows.slice(0, limit);
    for (const row of printed) {
      if (this.details.has(row)) continue;
      const earlier = this.store.isWhole(row) ? [] : this.store.earlier(row).map((other) => this.store.detailNow(other));
      const holder = el("div", { role: "row", class: "opened" },
        el("div", { role: "cell", class: "opened__cell" }, openedRow(this.store, row, this.store.detailNow(row), earlier)));
      holder.querySelectorAll("details").forEach((folded) => { folded.open = true; });
      this.details.set(row, holder);
    }
    this.fill(0, printed.length);
  }

  printed() {
    for (const [row, holder] of this.details) {
      if (this.openedBefore.has(row)) continue;
      holder.remove();
      this.details.delete(row);
    }
    this.printing = false;
    this.draw();
  }
}
