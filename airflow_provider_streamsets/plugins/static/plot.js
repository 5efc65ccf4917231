import { formatClock, formatCompact, formatDateTime, formatDay, formatNumber } from "./format.js";
import { Time, Table } from "./parts.js";
import { h, useEffect, useRef, useState } from "./react.js";

const HEIGHT = 200;
const MARGIN = { top: 12, right: 16, bottom: 28, left: 52 };
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

// The drawing has as many units as it has pixels, so that its text stays legible at any width.
function useWidth() {
  const element = useRef(null);
  const [width, setWidth] = useState(480);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.max(200, Math.round(entry.contentRect.width))));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}

function valueTicks(highest) {
  const power = 10 ** Math.floor(Math.log10(highest / 4));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => highest / size <= 4);
  return Array.from({ length: Math.ceil(highest / step) + 1 }, (_, index) => index * step);
}

function timeTicks(start, end, most) {
  const span = end - start;
  const step = (SECONDS.find((size) => span / (size * 1000) <= most) ?? Math.ceil(span / most / 864e5) * 86400) * 1000;
  const first = Math.ceil(start / step) * step;
  return Array.from({ length: Math.max(0, Math.floor((end - first) / step) + 1) }, (_, index) => first + index * step);
}

function describe(title, lines, points) {
  const period = `${title} from ${formatDateTime(points[0].time)} to ${formatDateTime(points.at(-1).time)}.`;
  const texts = lines.map(({ name, label }) => {
    const highest = Math.max(...points.map((point) => point[name]));
    return `${label}: highest ${formatNumber(highest)}, last ${formatNumber(points.at(-1)[name])}.`;
  });
  return [period, ...texts].join(" ");
}

/** Lines: {name, label}; points: {time, [name]: value}, in the order of time. */
export function Plot({ id, title, unit, source, lines, points }) {
  const [element, width] = useWidth();
  const [start, end] = [points[0].time, points.at(-1).time];
  const highest = Math.max(1, ...lines.flatMap(({ name }) => points.map((point) => point[name])));
  const values = valueTicks(highest);
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = (time) => MARGIN.left + ((time - start) / Math.max(1, end - start)) * (right - MARGIN.left);
  const y = (value) => bottom - (value / values.at(-1)) * (bottom - MARGIN.top);
  const formatTick = end - start > 864e5 ? formatDay : formatClock;
  const place = (point, name) => `${x(point.time).toFixed(1)},${y(point[name]).toFixed(1)}`;
  const tableId = `${id}-table`;
  return h("figure", { className: "plot", ref: element },
    h("figcaption", null,
      h("span", { className: "unit" }, unit),
      h("ul", { className: "legend" },
        lines.map(({ name, label }) =>
          h("li", { key: name },
            h("svg", { className: "key", viewBox: "0 0 28 10", "aria-hidden": true },
              h("path", { className: `line ${name}`, d: "M1 5H27" })),
            ` ${label}`,
          ),
        ),
      ),
    ),
    h("svg",
      {
        viewBox: `0 0 ${width} ${HEIGHT}`,
        role: "img",
        "aria-labelledby": `${id}-title`,
        "aria-describedby": `${id}-desc`,
      },
      h("title", { id: `${id}-title` }, title),
      h("desc", { id: `${id}-desc` }, describe(title, lines, points)),
      values.map((value) =>
        h("g", { key: `y${value}` },
          h("path", { className: "grid", d: `M${MARGIN.left} ${y(value)}H${right}` }),
          h("text", { className: "value", x: MARGIN.left - 6, y: y(value) + 4 }, formatCompact(value)),
        ),
      ),
      timeTicks(start, end, Math.max(1, Math.floor((right - MARGIN.left) / 110))).map((time) =>
        h("g", { key: `x${time}` },
          h("path", { className: "axis", d: `M${x(time)} ${bottom}v5` }),
          h("text", { className: "time", x: Math.min(x(time), right - 20), y: bottom + 19 }, formatTick(time)),
        ),
      ),
      h("path", { className: "axis", d: `M${MARGIN.left} ${MARGIN.top}V${bottom}H${right}` }),
      lines.map(({ name }) =>
        h("polyline", {
          key: name, className: `line ${name}`, points: points.map((point) => place(point, name)).join(" "),
        }),
      ),
    ),
    h("p", { className: "source" }, `Source: ${source}.`),
    h("details", { id: tableId },
      h("summary", null, "Show these values as a table"),
      h(Table, {
        caption: `${title}: values`,
        rows: points,
        className: "limited",
        columns: [
          { title: "Time", isRowHeader: true, cell: (point) => h(Time, { value: new Date(point.time).toISOString() }) },
          ...lines.map(({ name, label }) => ({
            title: label, isNumber: true, cell: (point) => formatNumber(point[name]),
          })),
        ],
      }),
    ),
  );
}
