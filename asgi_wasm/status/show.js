// Plugins, routes, and how long callbacks take. Every text is set as text: what plugins log is never read as HTML.
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

export function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

export function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function microseconds(value) {
  if (value === null) return "runs";
  if (value < 1000) return `${value.toFixed(1)} µs`;
  return value < 1e6 ? `${(value / 1000).toFixed(1)} ms` : `${(value / 1e6).toFixed(2)} s`;
}

function cell(...parts) {
  const made = document.createElement("td");
  made.append(...parts);
  return made;
}

function more(title, text) {
  const made = document.createElement("details");
  made.append(element("summary", title), element("pre", text));
  return made;
}

function row(plugin, opened) {
  const made = document.createElement("tr");
  const name = element("th", plugin.name);
  name.scope = "row";
  const state = [element("span", plugin.state, `state ${plugin.state}`), element("small", plugin.failure_policy)];
  if (plugin.mode === "observe") {
    const done = Object.entries(plugin.observed).map(([verdict, count]) => `${verdict.replace("_", " ")} ${count}`);
    state.push(element("small", `observes: would have ${done.length ? done.join(", ") : "done nothing"}`));
  }
  if (plugin.when) state.push(element("small", `when ${plugin.when}`));
  if (plugin.next_try) state.push(element("small", `next start in ${plugin.next_try.toFixed(1)} s`));
  if (plugin.last_failure) state.push(element("small", plugin.last_failure));
  const memory = plugin.memory === null ? "–" : `${Math.round(plugin.memory / 1024)} KiB`;
  const digests = [plugin.sha256.slice(0, 12), plugin.conf_sha256.slice(0, 12)].join("  ");
  const file = cell(element("small", plugin.file), element("code", digests));
  const counters = Object.entries(plugin.counters).map(([key, value]) => `${key} ${value}`);
  if (counters.length) file.append(more("counters", counters.join("\n")));
  if (plugin.last_lines.length) file.append(more("last log lines", plugin.last_lines.join("\n")));
  for (const each of file.querySelectorAll("details")) {
    each.id = `${plugin.name} ${plugin.conf_sha256} ${each.firstChild.textContent}`;
    each.open = opened.has(each.id);
  }
  const numbers = [plugin.priority, plugin.streams, memory, plugin.failures];
  const madeOf = cell(element("span", plugin.language || "unknown"), element("small", plugin.sdk));
  madeOf.append(element("small", plugin.abi_version && `ABI ${plugin.abi_version}`));
  made.append(name, cell(...state), ...numbers.map((value) => cell(element("span", String(value)))), madeOf, file);
  // For a telephone, where the headings do not stand above.
  const headings = byId("plugins").tHead.rows[0].cells;
  [...made.cells].forEach((each, index) => { each.dataset.label = headings[index].textContent; });
  return made;
}

export function showPlugins(status) {
  const body = byId("plugins").tBodies[0];
  const opened = new Set([...body.querySelectorAll("details[open]")].map((each) => each.id));
  body.replaceChildren(...status.plugins.map((plugin) => row(plugin, opened)));
  const running = status.plugins.filter((plugin) => plugin.state === "running").length;
  const draining = status.draining ? `, ${status.draining} from before a reload still end` : "";
  byId("summary").textContent = status.started ? `${running} of ${status.plugins.length} run${draining}` : "not started";
}

export function showRoutes(routes) {
  byId("routes").hidden = !routes.length;
  const lines = routes.map((route) => {
    const where = [...route.methods, ...route.hosts].join(" ");
    return element("li", `${route.uri}${where ? ` (${where})` : ""}: ${route.plugins.join(", ") || "none of its own"}`);
  });
  byId("routes").querySelector("ul").replaceChildren(...lines);
}

// --- a histogram for each plugin and callback

const WIDTH = 300;
const HEIGHT = 90;

function histogram(times) {
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + 16}`, role: "img" });
  const most = Math.max(...times.counts);
  const step = WIDTH / times.counts.length;
  const words = times.counts.map((count, index) => count && `${count} below ${times.labels[index]}`).filter(Boolean);
  svg.append(drawn("title", {}, `${times.plugin} ${times.callback}: ${words.join(", ")}`));
  times.counts.forEach((count, index) => {
    const height = most ? (count / most) * (HEIGHT - 14) : 0;
    const x = index * step;
    svg.append(drawn("rect", { class: "bar", x: x + 1, y: HEIGHT - height, width: step - 2, height }));
    if (count) svg.append(drawn("text", { x: x + step / 2, y: HEIGHT - height - 3, "text-anchor": "middle" }, count));
    svg.append(drawn("text", { x: x + step / 2, y: HEIGHT + 13, "text-anchor": "middle" }, times.labels[index]));
  });
  svg.append(drawn("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }));
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.append(element("strong", `${times.plugin} ${times.callback || "(all callbacks)"}`));
  caption.append(element("span", `median ${microseconds(times.median)}`, "faint"));
  figure.append(caption, svg);
  return figure;
}

export function showTimes(traces) {
  const off = "Nothing is kept: the setting trace_requests is 0, which costs nothing.";
  byId("times-note").textContent = traces.kept ? "Of the requests above, hostcalls and the trace itself included." : off;
  byId("times").replaceChildren(...traces.times.filter((each) => !each.callback).map(histogram));
  const single = traces.times.filter((each) => each.callback);
  byId("by-callback").hidden = !single.length;
  byId("by-callback").querySelector("div").replaceChildren(...single.map(histogram));
}
