import { useEffect, useRef, useState } from "./react.js";

const API = new URL("../api/", import.meta.url);
export const AIRFLOW = new URL("../../", import.meta.url);

const WORDS = {
  401: "You are not signed in. Sign in to Airflow, then reload this page.",
  403: "You may not see this: your role does not include this DAG. An administrator of Airflow can grant it.",
};

class RequestError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// URLSearchParams would write a space as "+".
export const toQuery = (values) =>
  Object.entries(values)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join("&");

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Airflow 3.1 puts run ids into addresses as they are, with "+00:00": no "+" is a space here.
export const fromQuery = (text) =>
  Object.fromEntries(
    text
      .replace(/^[?#]/, "")
      .split("&")
      .filter(Boolean)
      .map((pair) => [pair.split("=", 1)[0], decode(pair.slice(pair.indexOf("=") + 1))]),
  );

export const apiUrl = (name, values = {}) => `${API}${name}?${toQuery(values)}`;

async function request(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, headers: { Accept: "application/json", ...options.headers } });
  } catch (error) {
    throw error.name === "AbortError" ? error : new RequestError(0, "Airflow's API server cannot be reached.");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  const { detail = `The API server answered with HTTP status ${response.status}.` } = body ?? {};
  const isChange = options.method === "POST";
  const message = isChange ? detail : (WORDS[response.status] ?? detail);
  throw new RequestError(response.status, typeof message === "string" ? message : JSON.stringify(message));
}

export const post = (name, values) =>
  request(apiUrl(name, values), { method: "POST", headers: { "X-Streamsets-Action": "1" } });

// Airflow can mount a plugin again whenever it renders; the last answers survive that.
const answers = new Map();

function keep(url, answer) {
  answers.delete(url);
  answers.set(url, answer);
  if (answers.size > 30) answers.delete(answers.keys().next().value);
}

/**
 * Poll an address.
 *
 * `pause` maps the last answer to the seconds until the next request, or 0 for none. The last data remain when a
 * request fails. A change of `trigger` causes a request at once.
 */
export function usePolled(url, pause, trigger) {
  const [answer, setAnswer] = useState({});
  const [round, setRound] = useState(0);
  const latestPause = useRef(pause);
  latestPause.current = pause;
  useEffect(() => {
    if (!url) return undefined;
    const controller = new AbortController();
    let timer, isDue;
    const load = async () => {
      isDue = false;
      let next;
      try {
        next = { url, data: await request(url, { signal: controller.signal }), updated: new Date(), error: null };
      } catch (error) {
        next = { ...answers.get(url), url, error };
      }
      if (controller.signal.aborted) return;
      keep(url, next);
      setAnswer(next);
      const seconds = [401, 403].includes(next.error?.status) ? 0 : latestPause.current(next);
      if (seconds) timer = setTimeout(loadIfVisible, seconds * 1000);
    };
    const loadIfVisible = () => {
      isDue = document.hidden;
      if (!isDue) load();
    };
    const onVisibilityChange = () => {
      if (isDue && !document.hidden) load();
    };
    document.addEventListener("visibilitychange", onVisibilityChange);
    load();
    return () => {
      controller.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisibilityChange);
    };
  }, [url, round, trigger]);
  const shown = answer.url === url ? answer : (answers.get(url) ?? {});
  return { ...shown, refresh: () => setRound((number) => number + 1) };
}
