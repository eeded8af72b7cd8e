// The data of the page: the index of all rows, the opened rows in pieces, and the text that a search looks through.

const CODES = { p: "pass", f: "fail", e: "error", u: "unjudged", s: "skipped", "-": null };
const CHANGES = { b: "better", w: "worse", c: "changed", "=": "same", n: "new", "-": null };
const KEPT_PIECES = 12;

function bytesOf(element) {
  const binary = atob(element.textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

class Store {
  static async open() {
    return new Store(JSON.parse(await inflate(bytesOf(byId("index")))));
  }

  constructor(index) {
    this.index = index;
    this.count = index.ids.length;
    this.metrics = index.metrics;
    this.rowOf = new Map(index.ids.map((id, row) => [id, row]));
    this.packed = document.querySelectorAll("script.piece");
    this.unpacked = new Map();
    this.haystacks = null;
  }

  verdict(row) { return CODES[this.index.verdict[row]]; }
  change(row) { return CHANGES[this.index.change[row]]; }
  result(row, metric) { return CODES[this.metrics[metric].results[row]]; }
  score(row, metric) { return this.metrics[metric].scores[row]; }
  scenario(row) { return this.index.scenarios[this.index.scenario[row]]; }
  inQuarantine(row) { return this.index.quarantine[row] === "q"; }
  isWhole(row) { return this.index.position[row] === null; }

  /** The worst score of a row's gating metrics, or of all where none gates; null without any. */
  lowestScore(row) {
    const scores = (wanted) => this.metrics.flatMap((metric) => (wanted(metric) && metric.scores[row] !== null ? [metric.scores[row]] : []));
    const gating = scores((metric) => metric.gating);
    const found = gating.length ? gating : scores(() => true);
    return found.length ? Math.min(...found) : null;
  }

  /** What a row shows when it is opened. */
  async detail(row) {
    const piece = Math.floor(row / this.index.pieceRows);
    const kept = this.unpacked.get(piece);
    return this.keep(piece, kept ?? JSON.parse(await inflate(bytesOf(this.packed[piece]))))[row % this.index.pieceRows];
  }

  /** The same without waiting. */
  detailNow(row) {
    const piece = Math.floor(row / this.index.pieceRows);
    const kept = this.unpacked.get(piece);
    return this.keep(piece, kept ?? JSON.parse(inflateNow(bytesOf(this.packed[piece]))))[row % this.index.pieceRows];
  }

  keep(piece, rows) {
    this.unpacked.delete(piece);
    this.unpacked.set(piece, rows);
    if (this.unpacked.size > KEPT_PIECES) this.unpacked.delete(this.unpacked.keys().next().value);
    return rows;
  }

  /** The rows before this one in the same conversation. */
  earlier(row) {
    const rows = [];
    for (let other = row - 1; other >= 0 && this.index.scenario[other] === this.index.scenario[row]; other--) rows.unshift(other);
    return rows;
  }

  /** Everything that a search looks through, one lower-case text per row; unpacked once, in the background. */
  searchable() {
    this.haystacks ??= this.unpackForSearch();
    return this.haystacks;
  }

  async unpackForSearch() {
    const haystacks = [];
    for (const packed of this.packed) {
      for (const detail of JSON.parse(await inflate(bytesOf(packed)))) {
        const row = haystacks.length;
        const words = [this.index.ids[row], this.scenario(row), this.index.title[row]];
        collectText(detail, words);
        haystacks.push(words.join("\n").toLowerCase());
      }
    }
    return haystacks;
  }
}

function collectText(value, words) {
  if (typeof value === "string") words.push(value);
  else if (value && typeof value === "object") for (const part of Object.values(value)) collectText(part, words);
}
