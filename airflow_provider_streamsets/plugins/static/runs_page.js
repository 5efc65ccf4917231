import { mount } from "./preact.js";
import { RunsPage } from "./runs.js";

mount(RunsPage, {});
