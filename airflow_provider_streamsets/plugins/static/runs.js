import { apiUrl, fromQuery, toQuery, usePolled } from "./api.js";
import { formatCount, formatDuration, formatNumber } from "./format.js";
import { AirflowLink, Badge, ExternalLink, Note, RunLink, Table, Time, UpdateState } from "./parts.js";
import { dagPath, dagRunPath, taskPath } from "./parts.js";
import { h, loadStyle, useEffect, useRef, useState } from "./react.js";
import { jobTitle, outcomeColumns } from "./run_view.js";

const LIMIT = 50;
const SECONDS = 10;
const DEFAULTS = { state: "", dag: "", job: "", days: "7", offset: 0 };
const STATES = [
  ["", "All"],
  ["waiting", "Waiting"],
  ["succeeded", "Succeeded"],
  ["failed", "Failed"],
  ["stopped", "Stopped"],
];
const PERIODS = [["1", "Last day"], ["7", "Last 7 days"], ["30", "Last 30 days"]];

const HEALTH = {
  ok: ["succeeded", "Answers"],
  unreachable: ["failed", "Unreachable"],
  refused: ["failed", "Credential refused"],
  unknown: ["unknown", "Not polled yet"],
};

function Connection({ connection }) {
  const [state, words] = HEALTH[connection.state] ?? HEALTH.unknown;
  const facts = [
    ["Waiting runs", formatNumber(connection.waiting)],
    ["Last answer", h(Time, { value: connection.answered })],
    ["Latency", formatDuration(connection.latency)],
    ["Delay after a run's end", `${connection.delay === null ? "" : "at most "}${formatDuration(connection.delay)}`],
  ];
  return h("li", { className: "card" },
    h("h3", null, connection.id, " ", h(Badge, { state }, words)),
    h("dl", null, facts.map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value)))),
    connection.error && h("p", { className: "message error" }, connection.error),
  );
}

function Health() {
  const { data, error, updated } = usePolled(apiUrl("health"), () => SECONDS);
  return h("section", null,
    h("h2", null, "Connections"),
    data?.connections.length === 0 && h("p", null, "No run uses a connection to Control Hub yet."),
    data && h("ul", { className: "cards" },
      data.connections.map((connection) => h(Connection, { key: connection.id, connection }))),
    !data && (error ? h(Note, { kind: "failed" }, error.message) : h("p", null, "Loading…")),
    data && error && h(UpdateState, { updated, error }),
  );
}

function Select({ label, value, options, onChoose }) {
  return h("label", null,
    h("span", null, label),
    h("select", { value, onChange: (event) => onChoose(event.target.value) },
      options.map(([option, text]) => h("option", { key: option, value: option }, text)),
    ),
  );
}

function JobFilter({ value, onChoose }) {
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  const onInput = (event) => {
    const text = event.target.value.trim();
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onChoose(text), 400);
  };
  return h("label", null,
    h("span", null, "Job"),
    h("input", { type: "search", placeholder: "Part of name or id", defaultValue: value, onInput }),
  );
}

// In the address, so that a selection can be bookmarked.
function useFilters() {
  const [filters, setFilters] = useState(() => {
    const given = { ...DEFAULTS, ...fromQuery(location.search) };
    const isKnown = PERIODS.some(([days]) => days === given.days) && STATES.some(([state]) => state === given.state);
    return isKnown ? given : DEFAULTS;
  });
  const change = (values) => {
    setFilters((previous) => ({ ...previous, offset: 0, ...values }));
  };
  useEffect(() => {
    const changed = Object.entries(filters).filter(([name, value]) => name in DEFAULTS && value !== DEFAULTS[name]);
    const query = toQuery(Object.fromEntries(changed));
    // A relative address would be resolved against <base>.
    history.replaceState(history.state, "", location.pathname + (query && `?${query}`) + location.hash);
  }, [filters]);
  return [filters, change];
}

const columns = [
  {
    title: "DAG and run",
    isRowHeader: true,
    cell: (row) => [
      h(AirflowLink, { key: "dag", to: dagPath(row) }, row.dag_id),
      h("br", { key: "br" }),
      h(AirflowLink, { key: "run", to: dagRunPath(row) }, row.run_id),
    ],
  },
  {
    title: "Task",
    cell: (row) =>
      h(AirflowLink, { to: taskPath(row) }, `${row.task_id}${row.map_index >= 0 ? ` [${row.map_index}]` : ""}`),
  },
  { title: "Job", cell: (row) => h(ExternalLink, { href: row.job_url }, jobTitle(row)) },
  {
    title: "Run",
    cell: (row) => {
      const text = row.run_count === null ? "Details" : `Run ${row.run_count}`;
      return h(RunLink, { row, label: `${text} of job ${jobTitle(row)}` }, text);
    },
  },
  ...outcomeColumns,
];

const rowKey = (row) => [row.dag_id, row.run_id, row.task_id, row.map_index, row.job_id, row.run_count].join(" ");

function Pages({ offset, total, onChange }) {
  const page = Math.floor(offset / LIMIT) + 1;
  const pages = Math.max(1, Math.ceil(total / LIMIT));
  const button = (text, isPossible, to) =>
    // Not disabled: that would take the focus away at the last page.
    h("button", { type: "button", "aria-disabled": !isPossible, onClick: () => isPossible && onChange(to) }, text);
  return h("nav", { className: "pages", "aria-label": "Pages of runs" },
    button("Previous", offset > 0, Math.max(0, offset - LIMIT)),
    h("span", null, `Page ${formatNumber(page)} of ${formatNumber(pages)}`),
    button("Next", offset + LIMIT < total, offset + LIMIT),
  );
}

export function RunsPage() {
  const [filters, change] = useFilters();
  const offset = Number(filters.offset) || 0;
  const { state, dag, job, days } = filters;
  const answer = usePolled(apiUrl("runs", { state, dag, job, days, limit: LIMIT, offset }), () => SECONDS);
  // The previous rows remain until those of a new selection have arrived.
  const latest = useRef(null);
  latest.current = answer.data ?? latest.current;
  const data = latest.current;
  const dags = [["", "All"], ...[...new Set([...(data?.dags ?? []), dag])].filter(Boolean).map((id) => [id, id])];
  const last = data ? Math.min(offset + data.runs.length, data.total) : 0;
  return h("div", { className: "streamsets" },
    h("h1", null, "StreamSets runs"),
    h(Health),
    h("section", null,
      h("h2", null, "Runs"),
      h("form", { className: "filters", onSubmit: (event) => event.preventDefault() },
        h(Select, { label: "State", value: state, options: STATES, onChoose: (value) => change({ state: value }) }),
        h(Select, { label: "DAG", value: dag, options: dags, onChoose: (value) => change({ dag: value }) }),
        h(JobFilter, { value: job, onChoose: (value) => change({ job: value }) }),
        h(Select, { label: "Period", value: days, options: PERIODS, onChoose: (value) => change({ days: value }) }),
      ),
      answer.error && !data && h(Note, { kind: "failed", role: "alert" }, answer.error.message),
      answer.error && !answer.updated && data &&
        h(Note, { kind: "failed", role: "alert" }, `These runs could not be read: ${answer.error.message}`),
      !data && !answer.error && h("p", { role: "status" }, "Loading…"),
      data &&
        h("div", { className: "summary" },
          h("p", { role: "status" }, data.total
            ? `${formatCount(data.total, "run", "runs")}, ${formatNumber(offset + 1)} to ${formatNumber(last)} shown`
            : "No runs match these filters."),
          h(UpdateState, { ...answer, isLive: true })),
      data?.is_truncated &&
        h(Note, { kind: "warning" }, "There are more runs than can be listed. Choose a shorter period or a DAG."),
      data?.runs.length > 0 &&
        h("div", { "aria-busy": data !== answer.data },
          h(Table, {
            caption: "Runs that this Airflow has started or waits for",
            rows: data.runs, columns, rowKey, className: "runs",
          })),
      data?.total > 0 && h(Pages, { offset, total: data.total, onChange: (to) => change({ offset: to }) }),
    ),
  );
}

loadStyle();
globalThis.AirflowPlugin = RunsPage;
