import { AIRFLOW, toQuery } from "./api.js";
import { NONE, formatClock, formatDateTime } from "./format.js";
import { RouterLink, h, useEffect, useRef } from "./react.js";

const SIGNS = { waiting: "▶", active: "▶", succeeded: "✓", failed: "✕", stopped: "■" };

export function Badge({ state, children }) {
  return h("span", { className: `badge ${state}` },
    h("span", { "aria-hidden": true }, `${SIGNS[state] ?? "?"}\u00a0`),
    children,
  );
}

export function Time({ value }) {
  return value ? h("time", { dateTime: value }, formatDateTime(value)) : NONE;
}

// The address comes from Control Hub by way of the API: only web addresses become links.
export function ExternalLink({ href, children }) {
  if (!/^https?:\/\//.test(href ?? "")) return h("span", null, children);
  return h("a", { href, target: "_blank", rel: "noopener noreferrer" },
    children,
    h("span", { "aria-hidden": true }, " ↗"),
    h("span", { className: "hidden" }, " (Control Hub, in a new tab)"),
  );
}

export function AirflowLink({ to, children, label }) {
  return RouterLink
    ? h(RouterLink, { to: `/${to}`, "aria-label": label }, children)
    : h("a", { href: `${AIRFLOW}${to}`, "aria-label": label }, children);
}

export const dagPath = (row) => `dags/${encodeURIComponent(row.dag_id)}`;
export const dagRunPath = (row) => `${dagPath(row)}/runs/${encodeURIComponent(row.run_id)}`;
export const taskPath = (row) =>
  `${dagRunPath(row)}/tasks/${encodeURIComponent(row.task_id)}${row.map_index >= 0 ? `/mapped/${row.map_index}` : ""}`;

export const taskKeys = ({ dag_id, run_id, task_id, map_index }) => ({ dag_id, run_id, task_id, map_index });

/** A link to the view of a run: the tab in Airflow, or the standalone page. */
export function RunLink({ row, children, label }) {
  const hash = row.job_id ? `#${toQuery({ job: row.job_id })}` : "";
  if (RouterLink) return h(AirflowLink, { to: `${taskPath(row)}/plugin/streamsets${hash}`, label }, children);
  return h("a", { href: `run?${toQuery(taskKeys(row))}${hash}`, "aria-label": label }, children);
}

export function Note({ kind = "info", children, ...rest }) {
  return h("p", { className: `note ${kind}`, ...rest }, children);
}

export function UpdateState({ updated, error, isLive }) {
  return h("div", { className: "updated" },
    updated && h("p", null, `Updated ${formatClock(updated)}`, isLive ? "; refreshes by itself" : ""),
    error && updated && h(Note, { kind: "warning", role: "status" }, `Last update failed: ${error.message}`),
  );
}

/** Columns: {title, cell(row), isNumber, isRowHeader}. Where the table is too wide, it scrolls in its own region. */
export function Table({ caption, columns, rows, rowKey, rowClass, className = "" }) {
  return h("div", { className: `scroll ${className}`, role: "region", "aria-label": caption, tabIndex: 0 },
    h("table", null,
      h("caption", null, caption),
      h("thead", null,
        h("tr", null,
          columns.map((column) =>
            h("th", { key: column.title, scope: "col", className: column.isNumber ? "number" : "" }, column.title),
          ),
        ),
      ),
      h("tbody", null,
        rows.map((row, index) =>
          h("tr", { key: rowKey ? rowKey(row) : index, className: rowClass?.(row) ?? "" },
            columns.map((column) =>
              h(column.isRowHeader ? "th" : "td",
                {
                  key: column.title,
                  "data-title": column.title,
                  scope: column.isRowHeader ? "row" : undefined,
                  className: column.isNumber ? "number" : "",
                },
                column.cell(row),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

export function ConfirmDialog({ title, confirm, onConfirm, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const element = dialog.current;
    const opener = document.activeElement;
    element.addEventListener("close", onClose); // Escape
    element.showModal();
    return () => {
      element.removeEventListener("close", onClose);
      element.close();
      opener?.focus();
    };
  }, []);
  return h("dialog",
    {
      ref: dialog,
      role: "dialog",
      "aria-labelledby": "streamsets-dialog-title",
      "aria-describedby": "streamsets-dialog-text",
    },
    h("h2", { id: "streamsets-dialog-title" }, title),
    h("p", { id: "streamsets-dialog-text" }, children),
    h("div", { className: "buttons" },
      h("button", { type: "button", onClick: onClose }, "Go back"),
      h("button", { type: "button", className: "danger", onClick: onConfirm }, confirm),
    ),
  );
}
