// The two kinds of charts, drawn by Chart.js: mean scores with their intervals, and how the scores of a metric spread.

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Whiskers for the interval, a dashed mark for the threshold, and words where there is no score to draw. */
const marks = {
  id: "marks",
  afterDatasetsDraw(chart) {
    const { ctx, scales: { x, y } } = chart;
    const metrics = chart.options.plugins.marks.metrics;
    const half = Math.min(7, y.height / metrics.length / 4);
    ctx.save();
    metrics.forEach((metric, i) => {
      const middle = y.getPixelForValue(i);
      ctx.strokeStyle = ctx.fillStyle = colour("--ink");
      ctx.lineWidth = 1.5;
      if (metric.mean === null) {
        ctx.fillStyle = colour("--muted");
        ctx.font = `italic 12px ${Chart.defaults.font.family}`;
        ctx.textBaseline = "middle";
        ctx.fillText("no score", x.left + 8, middle);
      } else {
        const low = x.getPixelForValue(metric.low), high = x.getPixelForValue(metric.high);
        line(ctx, low, middle, high, middle);
        line(ctx, low, middle - half, low, middle + half);
        line(ctx, high, middle - half, high, middle + half);
      }
      ctx.setLineDash([3, 2]);
      ctx.strokeStyle = colour("--muted");
      for (const threshold of metric.thresholds) {
        const at = x.getPixelForValue(threshold);
        line(ctx, at, middle - 3 * half, at, middle + 3 * half);
      }
      ctx.setLineDash([]);
    });
    ctx.restore();
  },
};

function line(ctx, x1, y1, x2, y2) {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}

class Charts {
  constructor(store) {
    this.metrics = store.metrics;
    this.drawn = [];
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.animation = false;
  }

  draw() {
    this.drawn.forEach((chart) => chart.destroy());
    this.drawn = [];
    if (!this.metrics.length) return;
    Chart.defaults.color = colour("--muted");
    Chart.defaults.borderColor = colour("--line");
    this.means();
    this.histograms();
  }

  means() {
    const figure = byId("means");
    figure.hidden = false;
    const holder = figure.querySelector(".chart__canvas");
    holder.style.height = `${Math.max(96, this.metrics.length * 40 + 36)}px`;
    const narrow = holder.clientWidth < 480;
    this.drawn.push(new Chart(figure.querySelector("canvas"), {
      type: "bar",
      plugins: [marks],
      data: {
        labels: this.metrics.map(({ name }) => shortened(plain(name), narrow ? 16 : 34)),
        datasets: [{
          data: this.metrics.map(({ mean }) => mean),
          backgroundColor: this.metrics.map(({ gating }) => colour(gating ? "--accent" : "--accent-soft")),
          borderRadius: 3,
          maxBarThickness: 22,
        }],
      },
      options: {
        indexAxis: "y",
        maintainAspectRatio: false,
        scales: {
          x: { min: 0, max: 1, ticks: { stepSize: 0.2 }, border: { display: false } },
          y: { grid: { display: false }, border: { display: false }, ticks: { color: colour("--ink"), autoSkip: false } },
        },
        plugins: {
          marks: { metrics: this.metrics },
          legend: { display: false },
          tooltip: { displayColors: false, callbacks: { label: ({ dataIndex }) => meanWords(this.metrics[dataIndex]) } },
        },
      },
    }));
  }

  histograms() {
    const canvases = document.querySelectorAll("canvas.histogram");
    this.metrics.filter(({ histogram }) => histogram).forEach((metric, i) => {
      canvases[i].hidden = false;
      this.drawn.push(new Chart(canvases[i], {
        type: "bar",
        data: {
          labels: metric.histogram.map((_, bin) => (bin / 10).toFixed(1)),
          datasets: [{ data: metric.histogram, backgroundColor: colour("--accent"), barPercentage: 1, categoryPercentage: 0.92, borderRadius: 2 }],
        },
        options: {
          maintainAspectRatio: false,
          scales: {
            x: { grid: { display: false }, ticks: { maxRotation: 0, autoSkip: false, callback: (bin) => (bin % 5 ? "" : (bin / 10).toFixed(1)) } },
            y: { beginAtZero: true, border: { display: false }, ticks: { precision: 0, maxTicksLimit: 4 } },
          },
          plugins: {
            legend: { display: false },
            tooltip: {
              displayColors: false,
              callbacks: {
                title: ([{ dataIndex }]) => `${(dataIndex / 10).toFixed(1)} to ${((dataIndex + 1) / 10).toFixed(1)}`,
                label: ({ raw }) => `${raw} of ${metric.scored}`,
              },
            },
          },
        },
      }));
    });
  }
}

const shortened = (text, limit) => (text.length > limit ? `${text.slice(0, limit - 1)}…` : text);

const meanWords = (metric) =>
  `mean ${score(metric.mean)}, 95 % interval ${score(metric.low)} to ${score(metric.high)}, ${metric.scored} of ${metric.total} scored`;
