"use strict";

const PERIOD = 2000; // milliseconds between two looks
const KEY = "asgi-wasm-token";
const byId = (id) => document.getElementById(id);

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = text === "";
}

// Every text is set as text: what plugins log is never read as HTML.
function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function cell(...parts) {
  const made = document.createElement("td");
  made.append(...parts);
  return made;
}

function row(plugin) {
  const made = document.createElement("tr");
  const name = element("th", plugin.name);
  name.scope = "row";
  const state = [element("span", plugin.state, `state ${plugin.state}`), element("small", plugin.failure_policy)];
  if (plugin.next_try) state.push(element("small", `next start in ${plugin.next_try.toFixed(1)} s`));
  if (plugin.last_failure) state.push(element("small", plugin.last_failure));
  const memory = plugin.memory === null ? "–" : `${Math.round(plugin.memory / 1024)} KiB`;
  const digests = [plugin.sha256.slice(0, 12), plugin.conf_sha256.slice(0, 12)].join("  ");
  const file = cell(element("small", plugin.file), element("code", digests));
  if (plugin.last_lines.length) file.append(element("pre", plugin.last_lines.join("\n")));
  const numbers = [plugin.priority, plugin.streams, memory, plugin.failures, plugin.abi_version];
  made.append(name, cell(...state), ...numbers.map((value) => cell(element("span", String(value)))), file);
  return made;
}

function show(status) {
  byId("plugins").tBodies[0].replaceChildren(...status.plugins.map(row));
  const running = status.plugins.filter((plugin) => plugin.state === "running").length;
  const draining = status.draining ? `, ${status.draining} from before a reload still end` : "";
  byId("summary").textContent = status.started ? `${running} of ${status.plugins.length} run${draining}` : "not started";
}

async function look() {
  try {
    const response = await fetch("status.json", { headers: headers() });
    byId("unlock").hidden = response.status !== 403;
    if (response.ok) show(await response.json());
    else byId("summary").textContent = await response.text();
  } catch (error) {
    byId("summary").textContent = `no answer: ${error.message}`;
  }
}

byId("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("token").value);
  look();
});

byId("reload").addEventListener("click", async () => {
  say("");
  try {
    const response = await fetch("reload", { method: "POST", headers: { ...headers(), "x-asgi-wasm": "reload" } });
    if (!response.ok) say(await response.text());
  } catch (error) {
    say(`no answer: ${error.message}`);
  }
  look();
});

look();
setInterval(look, PERIOD);
