// The pages load the UMD files of preact before this module: the one of the hooks expects a global `this`.
globalThis.React = { ...globalThis.preact, ...globalThis.preactHooks };

export function mount(component, props) {
  const root = document.getElementById("root");
  root.replaceChildren();
  globalThis.preact.render(globalThis.preact.h(component, props), root);
}
