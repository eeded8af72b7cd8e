// Unpacking of raw deflate (RFC 1951) in one go. Browsers have it built in, but only as a stream: this one serves those
// that do not, and printing, which cannot wait.

const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163,
  195, 227, 258];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049,
  3073, 4097, 6145, 8193, 12289, 16385, 24577];
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

class BitReader {
  constructor(bytes) {
    this.bytes = bytes;
    this.position = 0;
    this.buffer = 0;
    this.held = 0;
  }

  take(count) {
    while (this.held < count) {
      if (this.position >= this.bytes.length) throw new Error("the data ends too early");
      this.buffer |= this.bytes[this.position++] << this.held;
      this.held += 8;
    }
    const value = this.buffer & ((1 << count) - 1);
    this.buffer >>>= count;
    this.held -= count;
    return value;
  }

  alignToByte() {
    this.buffer = 0;
    this.held = 0;
  }
}

class Output {
  constructor(expected) {
    this.bytes = new Uint8Array(expected);
    this.length = 0;
  }

  reserve(more) {
    if (this.length + more <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.length + more));
    larger.set(this.bytes);
    this.bytes = larger;
  }

  push(byte) {
    this.reserve(1);
    this.bytes[this.length++] = byte;
  }

  repeat(distance, count) {
    if (distance > this.length) throw new Error("a distance before the beginning");
    this.reserve(count);
    for (let i = 0; i < count; i++, this.length++) this.bytes[this.length] = this.bytes[this.length - distance];
  }
}

function canonicalCode(lengths) {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length]++;
  counts[0] = 0;
  const offsets = new Uint16Array(16);
  for (let length = 1; length < 15; length++) offsets[length + 1] = offsets[length] + counts[length];
  const symbols = new Uint16Array(lengths.length);
  lengths.forEach((length, symbol) => { if (length) symbols[offsets[length]++] = symbol; });
  return { counts, symbols };
}

function readSymbol(reader, code) {
  let value = 0, first = 0, index = 0;
  for (let length = 1; length <= 15; length++) {
    value |= reader.take(1);
    const count = code.counts[length];
    if (value - count < first) return code.symbols[index + (value - first)];
    index += count;
    first = (first + count) << 1;
    value <<= 1;
  }
  throw new Error("no such code");
}

function fixedCodes() {
  const lengths = Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8));
  return [canonicalCode(lengths), canonicalCode(new Array(30).fill(5))];
}

function dynamicCodes(reader) {
  const literals = reader.take(5) + 257, distances = reader.take(5) + 1, described = reader.take(4) + 4;
  const descriptions = new Array(19).fill(0);
  for (let i = 0; i < described; i++) descriptions[CODE_LENGTH_ORDER[i]] = reader.take(3);
  const code = canonicalCode(descriptions);
  const lengths = [];
  while (lengths.length < literals + distances) {
    const symbol = readSymbol(reader, code);
    if (symbol < 16) { lengths.push(symbol); continue; }
    const value = symbol === 16 ? lengths[lengths.length - 1] : 0;
    const times = symbol === 16 ? 3 + reader.take(2) : symbol === 17 ? 3 + reader.take(3) : 11 + reader.take(7);
    for (let i = 0; i < times; i++) lengths.push(value);
  }
  return [canonicalCode(lengths.slice(0, literals)), canonicalCode(lengths.slice(literals))];
}

function inflateBlock(reader, output, [literalCode, distanceCode]) {
  for (;;) {
    const symbol = readSymbol(reader, literalCode);
    if (symbol === 256) return;
    if (symbol < 256) { output.push(symbol); continue; }
    const length = LENGTH_BASE[symbol - 257] + reader.take(LENGTH_EXTRA[symbol - 257]);
    const slot = readSymbol(reader, distanceCode);
    output.repeat(DISTANCE_BASE[slot] + reader.take(slot < 4 ? 0 : (slot >> 1) - 1), length);
  }
}

function inflateStored(reader, output) {
  reader.alignToByte();
  const length = reader.take(16);
  reader.take(16);
  for (let i = 0; i < length; i++) output.push(reader.take(8));
}

/** Bytes of raw deflate -> text, at once. */
function inflateNow(bytes) {
  const reader = new BitReader(bytes), output = new Output(bytes.length * 8 + 1024);
  let last = false;
  while (!last) {
    last = reader.take(1) === 1;
    const kind = reader.take(2);
    if (kind === 0) inflateStored(reader, output);
    else if (kind === 1) inflateBlock(reader, output, fixedCodes());
    else if (kind === 2) inflateBlock(reader, output, dynamicCodes(reader));
    else throw new Error("no such block");
  }
  return new TextDecoder().decode(output.bytes.subarray(0, output.length));
}

/** Bytes of raw deflate -> text, by the browser's own stream where it has one. */
async function inflate(bytes) {
  if (typeof DecompressionStream === "undefined") return inflateNow(bytes);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).text();
}
