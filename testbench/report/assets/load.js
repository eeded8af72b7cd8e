// The page of a load test comes alive: two charts over time, and the theme.

const series = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(byId("series").textContent.trim()), (c) => c.charCodeAt(0))));

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

let drawn = [];

function draw() {
  drawn.forEach((chart) => chart.destroy());
  drawn = [];
  if (!series.second.length) return;
  byId("charts").hidden = false;
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.animation = false;
  Chart.defaults.color = colour("--muted");
  Chart.defaults.borderColor = colour("--line");
  const rates = [
    { ...stroke("due", series.due, "--accent"), order: 1 },
    { type: "bar", label: "without an answer", data: series.errors, backgroundColor: colour("--fail"), order: 2, barPercentage: 1, categoryPercentage: 1 },
  ];
  if (series.planned.some((value) => value !== null)) {
    rates.unshift({ ...stroke("planned", series.planned, "--muted"), borderDash: [5, 4], order: 0 });
  }
  over("rates", rates, (value) => `${number(value)}/s`);
  over("latencies", [
    stroke("median", series.p50_ms, "--accent"),
    stroke("95th percentile", series.p95_ms, "--error"),
  ], duration);
}

const stroke = (label, data, name) => ({
  type: "line", label, data, borderColor: colour(name), backgroundColor: colour(name),
  borderWidth: 1.75, pointRadius: ({ dataIndex }) => (alone(data, dataIndex) ? 2 : 0), pointHitRadius: 8, tension: 0, spanGaps: false,
});

/** A second without a neighbour has no line that would show it. */
const alone = (data, i) => (data[i - 1] ?? null) === null && (data[i + 1] ?? null) === null;

/** Lines and bars over the seconds of the test; `words` says a value of the upright axis. */
function over(id, datasets, words) {
  drawn.push(new Chart(byId(id), {
    data: { labels: series.second, datasets },
    options: {
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { grid: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 24, callback: (_, i) => `${series.second[i]} s` } },
        y: { beginAtZero: true, border: { display: false }, ticks: { callback: words } },
      },
      plugins: {
        legend: { position: "top", align: "start", labels: { boxWidth: 14, boxHeight: 3, color: colour("--ink") } },
        tooltip: {
          callbacks: {
            title: ([{ dataIndex }]) => `second ${series.second[dataIndex]}`,
            label: ({ dataset, parsed }) => `${dataset.label}: ${parsed.y === null ? "no answer" : words(parsed.y)}`,
          },
        },
      },
    },
  }));
}

function theme() {
  const root = document.documentElement, button = byId("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const show = () => { button.textContent = isDark() ? "☀ Light" : "☾ Dark"; draw(); };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; show(); });
  dark.addEventListener("change", show);
  let before;
  addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; draw(); });
  addEventListener("afterprint", () => {
    if (before === undefined) delete root.dataset.theme;
    else root.dataset.theme = before;
    draw();
  });
  show();
}

document.documentElement.classList.add("scripted");
theme();
document.documentElement.dataset.ready = "true";
