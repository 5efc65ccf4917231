// Airflow shares its React with plugins; preact.js provides the same names in the standalone pages.
export const { createElement: h, Fragment, useEffect, useRef, useState } = globalThis.React;

// Airflow's document has a router and leaves the style to the plugin; the standalone pages have neither.
export const { Link: RouterLink } = globalThis.ReactRouterDOM ?? {};

export function loadStyle() {
  const href = new URL("style.css", import.meta.url).href;
  if ([...document.querySelectorAll("link[rel=stylesheet]")].some((link) => link.href === href)) return;
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = href;
  document.head.append(link);
}
