// How anything gets onto the page: elements by name, words as text nodes. No string is ever parsed as markup.

const HIDDEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f" +
  "\\u2028\\u2029\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff\\u{e0000}-\\u{e007f}]", "gu");

const ICONS = { pass: "✓", fail: "✕", error: "!", skipped: "–", unjudged: "–" };
const WORDS = { pass: "Passed", fail: "Failed", error: "Error", skipped: "Skipped", unjudged: "Not judged" };

const byId = (id) => document.getElementById(id);

/** An element; `attributes` are ours (a value may be anybody's text), children are elements or plain text. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "onclick") element.addEventListener("click", value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Untrusted text as nodes: text, and the names of characters that nobody could see. */
function say(value) {
  const text = String(value).replaceAll("\r\n", "\n");
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > end) nodes.push(document.createTextNode(text.slice(end, match.index)));
    nodes.push(el("span", { class: "hidden-char", title: "A hidden character of the text" }, codePoint(match[0])));
    end = match.index + match[0].length;
  }
  if (end < text.length || !nodes.length) nodes.push(document.createTextNode(text.slice(end)));
  return nodes;
}

/** Untrusted text for an attribute. */
const plain = (value) => String(value).replace(HIDDEN, (character) => `[${codePoint(character)}]`);

const codePoint = (character) => "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");

const FIRST_CHARACTERS = 3000;
const MORE_CHARACTERS = 20000;

/** Long untrusted text: its beginning, and a button for more. */
function sayLong(value, name = "div", className = "prose") {
  const text = String(value);
  const holder = el(name, { class: className, dir: "auto" });
  let shown = 0;
  const more = el("button", { type: "button", class: "button button--quiet show-more", onclick: () => extend(MORE_CHARACTERS) });
  const extend = (count) => {
    const end = wholeCharacters(text, shown + count);
    holder.append(...say(text.slice(shown, end)));
    shown = end;
    more.textContent = `Show more (${number(text.length - shown)} characters left)`;
    if (shown >= text.length) more.remove();
  };
  extend(FIRST_CHARACTERS);
  return shown < text.length ? [holder, more] : [holder];
}

function wholeCharacters(text, end) {
  const unit = text.charCodeAt(end - 1);
  return unit >= 0xd800 && unit < 0xdc00 ? end + 1 : Math.min(end, text.length);
}

/** A link to another site, or only its text where it is no http address. */
function outward(address, label) {
  if (!/^https?:\/\//i.test(address)) return el("span", {}, label);
  return el("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, label);
}

const badge = (result) =>
  el("span", { class: `badge badge--${result}` }, el("span", { "aria-hidden": "true" }, ICONS[result]), " " + WORDS[result]);

const number = (value) => value.toLocaleString("en-US");

/** Two digits; what is not quite 1 never reads as 1.00. */
function score(value) {
  const shown = value.toFixed(2);
  return shown === "1.00" && value < 1 ? "0.99" : shown;
}

function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return milliseconds < 60000 ? `${(milliseconds / 1000).toFixed(milliseconds < 10000 ? 2 : 1)} s`
    : `${Math.floor(milliseconds / 60000)} min ${Math.round((milliseconds % 60000) / 1000)} s`;
}

/** JSON text, indented without touching its numbers; any other text as it is. */
function indentJson(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  try { JSON.parse(text); } catch { return text; }
  if (text.length <= 64) return text.trim();
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g);
  let result = "", depth = 0;
  tokens.forEach((token, i) => {
    const empty = (token === "}" || token === "]") && (tokens[i - 1] === "{" || tokens[i - 1] === "[");
    if ((token === "}" || token === "]") && !empty) result += "\n" + "  ".repeat(--depth);
    else if (empty) depth--;
    else if (tokens[i - 1] === "{" || tokens[i - 1] === "[" || tokens[i - 1] === ",") result += "\n" + "  ".repeat(depth);
    result += token === ":" ? ": " : token;
    if (token === "{" || token === "[") depth++;
  });
  return result;
}
