function timeZone() {
  // The time zone that the user has chosen in Airflow, if any; otherwise the browser's.
  try {
    const chosen = JSON.parse(localStorage.getItem("timezone")) || undefined;
    new Intl.DateTimeFormat(undefined, { timeZone: chosen });
    return chosen;
  } catch {
    return undefined;
  }
}

const options = (values) => ({ ...values, timeZone: timeZone() });
const dateTime = new Intl.DateTimeFormat(undefined, options({ dateStyle: "medium", timeStyle: "medium" }));
const clock = new Intl.DateTimeFormat(undefined, options({ timeStyle: "medium" }));
const dayParts = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
const day = new Intl.DateTimeFormat(undefined, options(dayParts));
const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 2 });
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });

export const NONE = "–";
export const formatDateTime = (value) => dateTime.format(new Date(value));
export const formatClock = (value) => clock.format(new Date(value));
export const formatDay = (value) => day.format(new Date(value));
export const formatCompact = (value) => compact.format(value);

export function formatNumber(value) {
  if (value === null || value === undefined) return NONE;
  return Math.abs(value) < 10 ? precise.format(value) : whole.format(value);
}

export const formatCount = (count, one, many) => `${formatNumber(count)} ${count === 1 ? one : many}`;

export function formatDuration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 10) return `${precise.format(seconds)} s`;
  const total = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}
