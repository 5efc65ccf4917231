import { apiUrl, fromQuery, toQuery, usePolled } from "./api.js";
import { formatCount } from "./format.js";
import { Note, Table, UpdateState } from "./parts.js";
import { h, loadStyle, useEffect, useRef, useState } from "./react.js";
import { Plots, RunDetails, Section, jobTitle, outcomeColumns, runTitle } from "./run_view.js";
import { groupSeries, useLog } from "./series.js";

// In the address, so that the choice survives a reload and can be sent to others.
function useChosenJob() {
  const [job, setJob] = useState(() => fromQuery(location.hash).job);
  const choose = (id) => {
    // A relative address would be resolved against <base>.
    history.replaceState(history.state, "", `${location.pathname}${location.search}#${toQuery({ job: id })}`);
    setJob(id);
  };
  return [job, choose];
}

function RunList({ runs, total, chosen, onChoose }) {
  const numbers = new Map();
  for (const { outcome } of runs) numbers.set(outcome, (numbers.get(outcome) ?? 0) + 1);
  const summary = [...numbers].map(([outcome, number]) => `${number} ${outcome.toLowerCase()}`).join(", ");
  const columns = [
    {
      title: "Job",
      isRowHeader: true,
      cell: (row) =>
        h("button", {
          type: "button", className: "link", "aria-pressed": row.job_id === chosen, onClick: () => onChoose(row.job_id),
        }, jobTitle(row)),
    },
    { title: "Run", cell: (row) => (row.run_count === null ? "Not started yet" : row.run_count) },
    ...outcomeColumns,
  ];
  return h("section", null,
    h("h2", null, `${formatCount(total, "run", "runs")} of this task`),
    total > runs.length && h(Note, { kind: "warning" }, `The first ${formatCount(runs.length, "run", "runs")} are shown.`),
    h("p", null, `${summary}. Choose a job to show its run.`),
    h(Table, {
      caption: "Runs of this task",
      columns,
      rows: runs,
      rowKey: (row) => row.job_id,
      rowClass: (row) => (row.job_id === chosen ? "chosen" : ""),
      className: "limited",
    }),
  );
}

function Absent({ error }) {
  if (error.status !== 404) return h(Note, { kind: "failed", role: "alert" }, error.message);
  return h(Note, null,
    h("strong", null, "This task has no StreamSets run."),
    " It has one as soon as an operator of the StreamSets provider has started a job here, or waits for one.",
  );
}

// 404: the run can still be started.
const pauseOf = ({ data }, isBusy) => (data ? (data.is_waiting || isBusy ? 5 : 0) : 15);

// Airflow leaves "{MAP_INDEX}" in place for a task that is not mapped.
const mapIndexOf = (value) => (/^\d+$/.test(value ?? "") ? value : -1);

export function TaskView({ dagId, runId, taskId, mapIndex }) {
  const keys = { dag_id: dagId, run_id: runId, task_id: taskId, map_index: mapIndexOf(mapIndex) };
  const busyUntil = useRef(0);
  const heading = useRef(null);
  const [chosenJob, setChosenJob] = useChosenJob();
  const [isMoved, setIsMoved] = useState(false);
  const isBusy = () => Date.now() < busyUntil.current;
  const { data, error, updated, refresh } = usePolled(apiUrl("task", keys), (answer) => pauseOf(answer, isBusy()));
  const runs = data?.runs ?? [];
  const isGroup = runs.length > 1;
  const row = isGroup ? runs.find(({ job_id: id }) => id === chosenJob) : runs[0];
  const isLive = () => Boolean(data?.is_waiting) || isBusy();
  const log = useLog(data, isGroup);
  const group = groupSeries(log ?? []);
  useEffect(() => {
    if (isMoved) heading.current?.focus();
  }, [chosenJob]);
  const choose = (id) => {
    setIsMoved(true);
    setChosenJob(id);
  };
  const onAction = () => {
    // An action takes effect some time after the answer, also if the task has ended.
    busyUntil.current = Date.now() + 60_000;
    refresh();
  };
  let content;
  if (!data) content = error ? h(Absent, { error }) : h("p", { role: "status" }, "Loading…");
  else if (!runs.length) content = h(Absent, { error: { status: 404 } });
  else {
    content = [
      data.connection?.error &&
        h(Note, { key: "hub", kind: "warning", role: "status" },
          `Control Hub could not be read: ${data.connection.error.replace(/\.?$/, ".")} The values are those Airflow stored.`),
      isGroup && h(RunList, { key: "list", runs, total: data.total, chosen: row?.job_id, onChoose: choose }),
      isGroup && (!row || error) && h(UpdateState, { key: "state", updated, error, isLive: isLive() }),
      isGroup && group.points.length > 2 && !row &&
        h(Section, { key: "plots", title: "Records of all runs" }, h(Plots, { id: "streamsets-group", series: group })),
      row && h(RunDetails, {
        key: row.job_id, task: data, row, rowUpdated: updated, rowError: isGroup ? null : error, groupLog: log,
        isLive, onAction, heading,
      }),
    ];
  }
  return h("div", { className: "streamsets" }, content);
}

loadStyle();
globalThis.AirflowPlugin = TaskView;
