import { AIRFLOW, toQuery, usePolled } from "./api.js";

const LOG_SECONDS = 60;

/** The log of the task's current try, which has the record counts that the poller saw; null if it is not needed. */
export function useLog({ task, is_waiting: isWaiting } = {}, isNeeded) {
  const path =
    isNeeded &&
    `api/v2/dags/${encodeURIComponent(task.dag_id)}/dagRuns/${encodeURIComponent(task.run_id)}` +
      `/taskInstances/${encodeURIComponent(task.task_id)}/logs/${task.try_number}` +
      `?${toQuery({ map_index: task.map_index, full_content: true })}`;
  const { data } = usePolled(isNeeded ? `${AIRFLOW}${path}` : null, () => (isWaiting ? LOG_SECONDS : 0), isWaiting);
  if (!isNeeded) return null;
  return Array.isArray(data?.content) ? data.content : [];
}

// How the poller logs record counts: control_hub/tracking/progress.py.
const COUNTS = /([\d,]+) records in, ([\d,]+) out, ([\d,]+) errors/;
const RUN = /^Job (?:'(.*)'|(\S+)) run (\d+): /;
const GROUP = /^\d+ of \d+ runs (?:are active or )?have ended/;

const HUB = "Time series of Control Hub";
const LOG = "What the task logged while it waited, once a minute";
const PAGE = "What this page has seen since it was opened";

function loggedPoints(entries, isWanted) {
  const points = [];
  for (const { timestamp, event } of entries) {
    const counts = timestamp && typeof event === "string" && isWanted(event) ? COUNTS.exec(event) : null;
    if (!counts) continue;
    const [input, output, errors] = counts.slice(1).map((text) => Number(text.replaceAll(",", "")));
    points.push({ time: Date.parse(timestamp), input, output, errors });
  }
  return points.sort((one, other) => one.time - other.time);
}

const loggedPointsOfRun = (entries, run) =>
  loggedPoints(entries, (event) => {
    const [, name, id, number] = RUN.exec(event) ?? [];
    return Number(number) === run.run_count && (name === undefined ? id === run.job_id : name === run.job_name);
  });

export const groupSeries = (entries) => ({
  source: LOG,
  points: loggedPoints(entries, (event) => GROUP.test(event)),
});

// Outside of the components, which Airflow can mount again.
const seen = new Map();

const seenPoints = (run) => seen.get(`${run.job_id} ${run.run_count}`) ?? [];

export function observe(run) {
  if (!run.is_live || typeof run.input !== "number") return;
  const points = seenPoints(run);
  const last = points.at(-1);
  if (last && (Date.now() - last.time < 3000 || run.input < last.input)) return;
  const point = { time: Date.now(), input: run.input, output: run.output ?? 0, errors: run.errors ?? 0 };
  seen.set(`${run.job_id} ${run.run_count}`, [...points, point].slice(-2000));
}

/** The record counts of a run over time, from the best source that there is. */
export function runSeries(run, entries) {
  if (run.series?.source) {
    return { source: HUB, points: run.series.points.map((point) => ({ ...point, time: Date.parse(point.time) })) };
  }
  const logged = loggedPointsOfRun(entries, run);
  // The clocks of browser and server can differ: what was seen continues the log.
  const later = seenPoints(run).filter((point) => !logged.length || point.time > logged.at(-1).time);
  const source = [logged.length && LOG, later.length && PAGE].filter(Boolean).join("; then: ");
  return { source, points: [...logged, ...later] };
}

export function throughput(points) {
  const rate = (point, previous, name) =>
    Math.max(0, point[name] - previous[name]) / Math.max(1, point.time - previous.time) * 1000;
  return points.slice(1).map((point, index) => ({
    time: point.time,
    input: rate(point, points[index], "input"),
    output: rate(point, points[index], "output"),
  }));
}
