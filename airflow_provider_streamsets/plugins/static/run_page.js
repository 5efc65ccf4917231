import { mount } from "./preact.js";
import { fromQuery } from "./api.js";
import { AirflowLink, taskPath } from "./parts.js";
import { Fragment, h } from "./react.js";
import { TaskView } from "./tab.js";

const keys = { map_index: "-1", ...fromQuery(location.search) };

function RunPage() {
  if (!keys.dag_id || !keys.run_id || !keys.task_id) {
    return h("p", null, "The address lacks dag_id, run_id or task_id. Open this page from the list of runs.");
  }
  const text = `${keys.dag_id} / ${keys.run_id} / ${keys.task_id}${keys.map_index >= 0 ? ` [${keys.map_index}]` : ""}`;
  return h(Fragment, null,
    h("p", { className: "streamsets" }, "Task: ", h(AirflowLink, { to: taskPath(keys) }, text)),
    h(TaskView, { dagId: keys.dag_id, runId: keys.run_id, taskId: keys.task_id, mapIndex: keys.map_index }),
  );
}

mount(RunPage, {});
