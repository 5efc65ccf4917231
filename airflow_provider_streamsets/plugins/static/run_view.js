import { apiUrl, post, usePolled } from "./api.js";
import { formatCount, formatDuration, formatNumber, NONE } from "./format.js";
import { Badge, ConfirmDialog, ExternalLink, Note, Table, Time, UpdateState, taskKeys } from "./parts.js";
import { Plot } from "./plot.js";
import { Fragment, h, useEffect, useRef, useState } from "./react.js";
import { observe, runSeries, throughput, useLog } from "./series.js";

export const jobTitle = (run) => run.job_name ?? run.job_id;
export const runTitle = (run) => (run.run_count === null ? "run not started yet" : `run ${run.run_count}`);

const countColumns = [
  { title: "Records in", isNumber: true, cell: (row) => formatNumber(row.input) },
  { title: "Records out", isNumber: true, cell: (row) => formatNumber(row.output) },
  { title: "Error records", isNumber: true, cell: (row) => formatNumber(row.errors) },
];

const INPUT = { name: "input", label: "Records in" };
const OUTPUT = { name: "output", label: "Records out" };
const ERRORS = { name: "errors", label: "Error records" };

export function Plots({ id, series }) {
  const { source, points } = series;
  if (points.length < 3) {
    return h(Note, null, "There are not enough values over time for a plot.");
  }
  return h("div", { className: "plots" },
    h(Plot, {
      id: `${id}-records`, title: "Records over time", unit: "Records", source, points, lines: [INPUT, OUTPUT, ERRORS],
    }),
    h(Plot, {
      id: `${id}-throughput`,
      title: "Throughput over time",
      unit: "Records per second",
      source: `${source}; derived from the records`,
      points: throughput(points),
      lines: [INPUT, OUTPUT],
    }),
  );
}

const ACTIONS = [
  {
    name: "stop",
    label: "Stop run",
    explain: (run, task) =>
      `Control Hub will stop ${runTitle(run)} of job '${jobTitle(run)}' on all its engines.` +
      (task.is_waiting ? ` Task '${run.task_id}', which waits for it, will fail unless it accepts stopped runs.` : ""),
  },
  {
    name: "acknowledge",
    label: "Acknowledge error",
    explain: (run) =>
      `Control Hub will mark the error of job '${jobTitle(run)}' (${runTitle(run)}) as acknowledged, so that the job ` +
      "can be started again. Control Hub can show the run as successful then.",
  },
];

function Actions({ run, task, onDone }) {
  const [asked, setAsked] = useState(null);
  const [result, setResult] = useState({ kind: "info", text: "" });
  const [isBusy, setIsBusy] = useState(false);
  const message = useRef(null);
  const send = async ({ name, label }) => {
    setAsked(null);
    setIsBusy(true);
    setResult({ kind: "info", text: `${label}: waiting for Control Hub…` });
    try {
      const answer = await post(name, { ...taskKeys(run), job_id: run.job_id });
      setResult({ kind: "succeeded", text: answer.message });
    } catch (error) {
      setResult({ kind: "failed", text: `${label}: ${error.message}` });
    }
    setIsBusy(false);
    onDone();
    // The button can vanish with the next answer.
    message.current?.focus();
  };
  const offered = ACTIONS.filter(({ name }) => run.actions?.[name]);
  return h("div", { className: "actions" },
    offered.map((action) =>
      h("button", { key: action.name, type: "button", disabled: isBusy, onClick: () => setAsked(action) },
        action.label),
    ),
    h("div", { className: "result", "aria-live": "polite", ref: message, tabIndex: -1 },
      result.text && h(Note, { kind: result.kind }, result.text),
    ),
    asked &&
      h(ConfirmDialog,
        {
          title: `${asked.label}: ${jobTitle(run)}, ${runTitle(run)}`,
          confirm: asked.label,
          onConfirm: () => send(asked),
          onClose: () => setAsked(null),
        },
        asked.explain(run, task),
      ),
  );
}

function Facts({ facts }) {
  return h("dl", { className: "facts" },
    facts.map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value))),
  );
}

export function Section({ title, children }) {
  return h("section", null, h("h3", null, title), children);
}

function Pipeline({ pipeline }) {
  if (!pipeline) return NONE;
  const version = pipeline.version ? `, version ${pipeline.version}` : "";
  return `${pipeline.name}${version}`;
}

function Engines({ engines }) {
  if (!engines?.length) return NONE;
  return h("ul", null,
    engines.map(({ id, name, url, status, message }) =>
      h("li", { key: id },
        h(ExternalLink, { href: url }, name ?? id),
        [status, message].filter(Boolean).map((text) => `: ${text}`).join("")),
    ),
  );
}

const hasErrors = (stage) => stage.errors > 0 || stage.stage_errors > 0;

const stageColumns = [
  {
    title: "Stage",
    isRowHeader: true,
    cell: (stage) => h(Fragment, null, stage.name, hasErrors(stage) && h(Badge, { state: "failed" }, "Errors")),
  },
  ...countColumns,
  { title: "Stage errors", isNumber: true, cell: (stage) => formatNumber(stage.stage_errors) },
];

const eventColumns = [
  { title: "Time", isRowHeader: true, cell: (event) => h(Time, { value: event.time }) },
  { title: "Status", cell: (event) => event.status || NONE },
  { title: "User", cell: (event) => event.user || NONE },
  { title: "Message", cell: (event) => event.message || NONE },
];

export const outcomeColumns = [
  { title: "Outcome", cell: (run) => h(Badge, { state: run.state }, run.outcome) },
  { title: "Started", cell: (run) => h(Time, { value: run.started }) },
  { title: "Duration", isNumber: true, cell: (run) => formatDuration(run.duration) },
  ...countColumns,
];

const earlierColumns = [{ title: "Run", isRowHeader: true, cell: (run) => run.run_count }, ...outcomeColumns];

// Two requests have the same facts: the newer ones count. The one that was answered first can have read later: while a run
// is active, its counts only grow.
function mergeAnswers(row, details, areDetailsNewer) {
  const run = areDetailsNewer ? { ...row, ...details } : { ...details, ...row };
  if (run.finished || row.run_count !== details?.run_count) return run;
  const counts = ["input", "output", "errors"].map((name) => [name, Math.max(row[name] ?? 0, details[name] ?? 0)]);
  return { ...run, ...Object.fromEntries(counts) };
}

export function RunDetails({ task, row, rowUpdated, rowError, groupLog, isLive, onAction, heading }) {
  const url = apiUrl("run", { ...taskKeys(row), job_id: row.job_id });
  const { data, error, updated, refresh } = usePolled(url, () => (isLive() ? 5 : 0), task.is_waiting);
  const run = mergeAnswers(row, data, updated && updated >= rowUpdated);
  const log = useLog(task, !groupLog && data && !data.series.source) ?? groupLog ?? [];
  useEffect(() => observe(row), [row]);
  const onDone = () => {
    onAction();
    refresh();
  };
  return h("article", { "aria-labelledby": "streamsets-run" },
    h("header", null,
      h("h2", { id: "streamsets-run", ref: heading, tabIndex: -1 },
        h(ExternalLink, { href: run.job_url }, jobTitle(run)),
        `, ${runTitle(run)}`,
      ),
      h(Badge, { state: run.state }, run.outcome),
    ),
    h(UpdateState, { updated, error: error ?? rowError, isLive: isLive() }),
    error && !updated && 
      h(Note, { kind: "failed", role: "alert" }, `The details of the run could not be read: ${error.message}`),
    run.error_message &&
      h("div", { className: "note failed" },
        h("strong", null, "Error of the run"),
        h("p", { className: "message" }, run.error_message)),
    run.description && h("p", { className: "message" }, run.description),
    h(Actions, { run, task, onDone }),
    h("dl", { className: "counts" },
      countColumns.map(({ title, cell }) => h("div", { key: title }, h("dt", null, title), h("dd", null, cell(run)))),
    ),
    h(Facts, {
      facts: [
        ["Pipeline", h(Pipeline, run)],
        ["Engine", h(Engines, run)],
        ["Started", h(Time, { value: run.started })],
        ["Finished", h(Time, { value: run.finished })],
        ["Duration", formatDuration(run.duration)],
        ["Status in Control Hub", [run.status, run.color].filter(Boolean).join("/") || NONE],
        ["Connection", run.conn_id || NONE],
      ],
    }),
    !run.is_live && h("p", { className: "source" }, "Outcome and records are as Airflow stored them earlier."),
    run.problems?.length > 0 &&
      h("div", { className: "note warning" }, h("strong", null, "Not all of this run could be read"),
        h("ul", null, run.problems.map((problem) => h("li", { key: problem }, problem)))),
    data &&
      h(Section, { title: "Records and throughput" }, h(Plots, { id: "streamsets-run", series: runSeries(run, log) })),
    data?.stages.length > 0 &&
      h(Section, { title: "Stages" },
        h(Table, { caption: "Records and errors of each stage", columns: stageColumns, rows: data.stages,
          rowClass: (stage) => (hasErrors(stage) ? "has-errors" : "") })),
    Object.keys(data?.parameters ?? {}).length > 0 &&
      h(Section, { title: "Runtime parameters" },
        h(Table, {
          caption: "Parameters of the job as it is now, with those of the task",
          columns: [
            { title: "Parameter", isRowHeader: true, cell: ([name]) => name },
            { title: "Value", cell: ([, value]) => (typeof value === "string" ? value : JSON.stringify(value)) },
          ],
          rows: Object.entries(data.parameters),
        })),
    data?.events.length > 0 &&
      h(Section, { title: "Events" },
        h(Table, { caption: "Events of the run in Control Hub", columns: eventColumns, rows: data.events })),
    data?.earlier.length > 0 &&
      h(Section, { title: "Earlier runs" },
        h(Table, { caption: `${formatCount(data.earlier.length, "earlier run", "earlier runs")} of this job`,
          columns: earlierColumns, rows: data.earlier, rowKey: (earlier) => earlier.run_count })),
  );
}
