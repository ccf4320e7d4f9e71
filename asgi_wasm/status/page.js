// The page as a whole: what is asked for, how often, and by which keys.
import { element, showPlugins, showRoutes, showTimes } from "./show.js";
import { showRequests, showTrace } from "./waterfall.js";

const PERIOD = 2000; // milliseconds between two looks
const TOKEN = "asgi-wasm-token";
const THEME = "asgi-wasm-theme";
const THEMES = ["system", "light", "dark"];
const byId = (id) => document.getElementById(id);
let isLive = true;
let chosen = null; // the number of the request whose trace is shown

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = text === "";
}

async function ask(path) {
  const response = await fetch(path, { headers: headers() });
  byId("unlock").hidden = response.status !== 403;
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

async function look() {
  try {
    const status = await ask("status.json");
    showPlugins(status);
    showRoutes(status.routes);
    const traces = await ask("traces.json");
    showTimes(traces);
    showRequests(traces, chosen, choose);
  } catch (error) {
    byId("summary").textContent = error.message || "no answer";
  }
}

async function choose(number) {
  chosen = number;
  for (const each of byId("list").children) each.setAttribute("aria-selected", String(Number(each.dataset.number) === number));
  const active = byId("list").querySelector('[aria-selected="true"]');
  if (active) {
    byId("list").setAttribute("aria-activedescendant", active.id);
    active.scrollIntoView({ block: "nearest" });
  }
  try {
    showTrace(await ask(`traces/${number}.json`));
  } catch (error) {
    say(error.message);
  }
}

byId("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("token").value);
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

byId("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = new URLSearchParams({ method: byId("method").value, url: byId("url").value });
  try {
    const found = await ask(`plugins.json?${query}`);
    const answer = byId("answer");
    if (found.plugins === null) answer.replaceChildren("It is refused: no route names it.");
    else if (!found.plugins.length) answer.replaceChildren("No plugin runs.");
    else {
      const chain = document.createElement("ol");
      chain.className = "plugins";
      chain.append(...found.plugins.map((plugin) => element("li", plugin.name)));
      answer.replaceChildren(chain);
    }
  } catch (error) {
    byId("answer").textContent = error.message;
  }
});

function useTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
  localStorage.setItem(THEME, name);
}

byId("theme").addEventListener("click", () => {
  const now = THEMES.indexOf(localStorage.getItem(THEME) || "system");
  useTheme(THEMES[(now + 1) % THEMES.length]);
});

byId("live").addEventListener("click", () => {
  isLive = !isLive;
  byId("live").setAttribute("aria-pressed", String(isLive));
  byId("live").textContent = isLive ? "Live" : "Paused";
});

byId("list").addEventListener("keydown", (event) => {
  const each = [...byId("list").children];
  const step = { ArrowDown: 1, ArrowUp: -1, Home: -each.length, End: each.length }[event.key];
  if (step === undefined || !each.length) return;
  event.preventDefault();
  const now = each.findIndex((item) => Number(item.dataset.number) === chosen);
  const next = now < 0 ? 0 : Math.min(each.length - 1, Math.max(0, now + step));
  choose(Number(each[next].dataset.number));
});

// Single keys, where no field is being filled in.
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = { r: "reload", p: "live", t: "theme" }[event.key];
  if (button) byId(button).click();
});

useTheme(localStorage.getItem(THEME) || "system");
look();
setInterval(() => isLive && look(), PERIOD);
