// The last requests as a list, and one of them as a waterfall: callbacks, hostcalls, callouts, and the app in between.
import { drawn, element, microseconds } from "./show.js";

const byId = (id) => document.getElementById(id);

function kindOf(status) {
  if (!status || status >= 500) return "bad";
  return status >= 400 ? "warn" : "ok";
}

export function showRequests(traces, chosen, choose) {
  const made = traces.requests.map((request) => {
    const item = document.createElement("li");
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", String(request.number === chosen));
    item.id = `request-${request.number}`;
    item.dataset.number = request.number;
    item.append(element("span", request.status || "–", `code ${kindOf(request.status)}`));
    item.append(element("span", `${request.method} ${request.target}`, "what"));
    item.append(element("span", microseconds(request.took), "faint"));
    item.title = `${request.method} ${request.target}`;
    item.addEventListener("click", () => choose(request.number));
    return item;
  });
  // Not while nothing has come: whoever points at one would lose it.
  const key = traces.requests.map((request) => `${request.number}/${request.status}/${request.calls}`).join();
  if (byId("list").dataset.key !== key) byId("list").replaceChildren(...made);
  byId("list").dataset.key = key;
  const note = traces.kept
    ? `The last ${traces.kept} are kept. Choose one by the mouse, or by the arrow keys.`
    : "None is kept: the setting trace_requests is 0.";
  byId("requests-note").textContent = note;
}

function rows(trace) {
  const found = trace.calls.map((call) => ({
    kind: call.is_callback ? "callback" : "hostcall",
    name: call.is_callback ? `${call.plugin} ${call.name}` : call.name,
    words: [call.arguments, call.error ? `failed: ${call.error}` : call.answer].filter(Boolean).join(" → "),
    depth: call.depth,
    bad: Boolean(call.error) || (!call.is_callback && !["", "OK"].includes(call.answer.split(" ")[0])),
    began: call.began,
    took: call.took,
  }));
  for (const callout of trace.callouts) {
    const words = `${callout.kind} ${callout.what} → ${callout.outcome || "no answer yet"}`;
    const bad = callout.outcome !== "" && callout.outcome !== "response" && callout.outcome !== "status 0";
    found.push({ kind: "callout", name: `upstream ${callout.upstream}`, words, depth: 0, bad, began: callout.began, took: callout.took });
  }
  if (trace.app) found.push({ kind: "app", name: "the app", words: "", depth: 0, bad: false, ...trace.app });
  return found.sort((one, other) => one.began - other.began || one.depth - other.depth);
}

function bar(row, whole) {
  const svg = drawn("svg", { viewBox: "0 0 1000 20", preserveAspectRatio: "none", "aria-hidden": "true" });
  const x = (row.began / whole) * 1000;
  const width = Math.max(3, ((row.took ?? whole - row.began) / whole) * 1000);
  svg.append(drawn("rect", { class: row.bad ? `${row.kind} bad` : row.kind, x: Math.min(x, 997), y: 3, width, height: 14 }));
  return svg;
}

export function showTrace(trace) {
  const found = rows(trace);
  const whole = Math.max(1, ...found.map((row) => row.began + (row.took ?? 0)));
  const fall = document.createElement("div");
  fall.className = "fall";
  for (const row of found) {
    const name = element("div", row.name, `name depth${Math.min(row.depth, 2)}${row.bad ? " bad" : ""}`);
    if (row.words) name.append(element("small", row.words));
    name.title = [row.name, row.words].filter(Boolean).join(": ");
    // What is cut is shown whole where the keyboard, a finger or a click is.
    name.tabIndex = 0;
    const picture = element("div", "", "picture");
    picture.append(bar(row, whole));
    fall.append(name, picture, element("div", microseconds(row.took), "took"));
  }
  const legend = document.createElement("ul");
  legend.className = "legend";
  legend.append(...["callback", "hostcall", "callout", "app"].map((kind) => element("li", kind, kind)));
  const told = [`${trace.status || "no status"} by the ${trace.answered_by || "?"}`, new Date(trace.at * 1000).toLocaleString()];
  if (trace.request_id) told.push(`request id ${trace.request_id}`);
  if (trace.left_out) told.push(`${trace.left_out} more calls were left out`);
  const parts = [element("h3", `${trace.method} ${trace.target}`), element("p", told.join(", "), "faint"), legend, fall];
  byId("trace").replaceChildren(...parts);
  byId("trace").hidden = false;
}
