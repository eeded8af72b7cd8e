// The difference of two texts, word by word: the longest common subsequence after equal ends are set aside.

const DIFF_CELLS = 4_000_000;

const wordsOf = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];

/** [[kind, text], …] with kind "same", "gone" (only before) or "new" (only after); null where the texts are too long. */
function difference(before, after) {
  const a = wordsOf(before), b = wordsOf(after);
  let start = 0, endA = a.length, endB = b.length;
  while (start < endA && start < endB && a[start] === b[start]) start++;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) { endA--; endB--; }
  const rows = endA - start, columns = endB - start;
  if (rows * columns > DIFF_CELLS || rows > 65000 || columns > 65000) return null;
  const parts = [];
  const add = (kind, text) => {
    const last = parts[parts.length - 1];
    if (last && last[0] === kind) last[1] += text;
    else if (text) parts.push([kind, text]);
  };
  add("same", a.slice(0, start).join(""));
  const width = columns + 1;
  const common = new Uint16Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i--) {
    for (let j = columns - 1; j >= 0; j--) {
      common[i * width + j] = a[start + i] === b[start + j]
        ? common[(i + 1) * width + j + 1] + 1
        : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  let i = 0, j = 0;
  while (i < rows || j < columns) {
    if (i < rows && j < columns && a[start + i] === b[start + j]) { add("same", a[start + i]); i++; j++; }
    else if (j >= columns || (i < rows && common[(i + 1) * width + j] >= common[i * width + j + 1])) { add("gone", a[start + i]); i++; }
    else { add("new", b[start + j]); j++; }
  }
  add("same", a.slice(endA).join(""));
  return parts;
}
