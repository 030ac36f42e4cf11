// Draws the report's charts; the tables beside them hold the same numbers.
"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const drawn = new Map();
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const text = (value) => (value == null ? "" : String(Number(value.toPrecision(4))));

  function line(u, x0, y0, x1, y1, stroke, dash, aside = 0) {
    const place = (x, y) => [
      u.valToPos(x, "x", true) + aside * devicePixelRatio,
      u.valToPos(y, "y", true),
    ];
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.strokeStyle = stroke;
    u.ctx.lineWidth = devicePixelRatio;
    u.ctx.setLineDash(dash.map((length) => length * devicePixelRatio));
    u.ctx.moveTo(...place(x0, y0));
    u.ctx.lineTo(...place(x1, y1));
    u.ctx.stroke();
    u.ctx.restore();
  }

  function marks(u, chart) {
    const faint = colour("faint");
    if (chart.unit_square) line(u, 0, 0, 1, 1, faint, [4, 4]);
    if (chart.mark === null) return;
    const { min, max } = u.scales.y;
    line(u, chart.mark, min, chart.mark, max, faint, [2, 3]);
    const right = u.valToPos(chart.mark, "x") > u.over.clientWidth / 2;
    u.ctx.save();
    u.ctx.fillStyle = colour("soft");
    u.ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    u.ctx.textAlign = right ? "right" : "left";
    u.ctx.textBaseline = "top";
    const x = u.valToPos(chart.mark, "x", true) + (right ? -5 : 5) * devicePixelRatio;
    u.ctx.fillText(chart.mark_label, x, u.bbox.top + 3 * devicePixelRatio);
    u.ctx.restore();
  }

  function intervals(u, chart) {
    chart.series.forEach((series, place) => {
      if (!u.series[place + 1].show) return;
      // Beside each other, since models may agree.
      const aside = 4 * (place - (chart.series.length - 1) / 2);
      series.low.forEach((low, at) => {
        if (low === null) return;
        line(u, chart.x[at], low, chart.x[at], series.high[at], colour(series.colour), [], aside);
      });
    });
  }

  function axis(label, size) {
    return {
      label,
      size,
      labelSize: 22,
      labelFont: "13px system-ui, sans-serif",
      font: "12px system-ui, sans-serif",
      stroke: colour("soft"),
      grid: { stroke: colour("grid"), width: 1 },
      ticks: { stroke: colour("grid"), width: 1, size: 5 },
    };
  }

  function size(chart, host) {
    const width = Math.max(240, host.clientWidth);
    return { width, height: Math.round(Math.min(chart.unit_square ? 400 : 300, width * 0.9)) };
  }

  function counts(chart) {
    return !chart.unit_square && chart.x.every(Number.isInteger);
  }

  function range(chart) {
    if (chart.unit_square) return { x: { time: false, range: [0, 1] }, y: { range: [0, 1] } };
    const last = chart.x.length - 1;
    const beside = counts(chart) ? 0.5 : 0;
    return {
      x: { time: false, range: [chart.x[0] - beside, chart.x[last] + beside] },
      y: chart.from_zero ? { range: (u, min, max) => uPlot.rangeNum(0, max || 1, 0.1, true) } : {},
    };
  }

  function draw(chart) {
    const host = document.querySelector(`[data-chart="${chart.name}"]`);
    drawn.get(chart.name)?.destroy();
    const x = axis(chart.x_label, 36);
    if (counts(chart)) x.incrs = [1, 2, 5, 10, 20, 50, 100, 200, 500];
    const plot = new uPlot(
      {
        ...size(chart, host),
        scales: range(chart),
        axes: [x, axis(chart.y_label, 52)],
        legend: {
          markers: {
            stroke: (u, place) => colour(chart.series[place - 1].colour),
            dash: (u, place) => (chart.series[place - 1].dashed ? "dashed" : "solid"),
          },
        },
        cursor: { y: false, drag: { x: false, y: false } },
        series: [
          { label: chart.x_label, value: (u, value) => text(value) },
          ...chart.series.map((series) => ({
            label: series.label,
            // Half-transparent where another line lies on top.
            stroke: colour(series.colour) + (series.wide ? "70" : ""),
            width: series.wide ? 7 : 2,
            dash: series.dashed ? [6, 4] : [],
            spanGaps: true,
            points: { show: chart.points, size: series.wide ? 11 : 5, fill: colour(series.colour) + (series.wide ? "70" : "") },
            value: (u, value) => text(value),
          })),
        ],
        hooks: {
          drawAxes: [(u) => marks(u, chart)],
          draw: [
            (u) => {
              intervals(u, chart);
              host.dataset.drawn = "yes";
              if (document.querySelectorAll("[data-drawn]").length === charts.length) done();
            },
          ],
        },
      },
      [chart.x, ...chart.series.map((series) => series.values)],
      host,
    );
    drawn.set(chart.name, plot);
  }

  function done() {
    if (!root.dataset.error) root.dataset.ok = "yes";
  }

  function redraw() {
    charts.forEach(draw);
  }

  addEventListener("error", (event) => {
    root.dataset.error = event.message;
    delete root.dataset.ok;
  });
  redraw();
  if (charts.length === 0) done();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("resize", () => {
    for (const chart of charts) {
      const plot = drawn.get(chart.name);
      const wanted = size(chart, plot.root.parentElement);
      if (wanted.width !== plot.width) plot.setSize(wanted);
    }
  });
  // Paper is white: charts drawn for a dark screen are drawn again for it.
  addEventListener("beforeprint", () => {
    root.dataset.print = "yes";
    redraw();
  });
  addEventListener("afterprint", () => {
    delete root.dataset.print;
    redraw();
  });
})();
