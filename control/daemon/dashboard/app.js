// The dashboard: is told once a second, and draws. No library, no build step. Every text goes in as text, never as markup.

const TOKEN = "fogmix-token";
const SECOND = 1000;
const PATIENCE = 2500;
// After this a socket that closed is tried again.
const AGAIN = 5 * SECOND;
const PROTOCOL = "fogmix.v1";
const HISTORY = 120;
const COLUMN_NODES = 24;
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);
const history_ = [];
let token = takeToken();
let socket = null;
let told = 0;
let closed = -AGAIN;

// The token comes in the fragment, which no server sees, and leaves the address at once.
function takeToken() {
  const shown = location.hash.slice(1);
  if (/^[0-9a-f]{64}$/.test(shown)) {
    sessionStorage.setItem(TOKEN, shown);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(TOKEN);
}

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const title = (text) => draw("title", {}, text);
const whole = (number) => Math.round(number).toLocaleString("en");
const pace = (perS) => (perS > 0 && perS < 10 ? perS.toFixed(1) : whole(perS)) + "/s";
const percent = (share) => (100 * share).toFixed(1) + " %";
const bits = (of) => (of === null ? "–" : of.toFixed(1));
const ms = (us) => (us < 1000 ? `${whole(us)} µs` : `${us < 10_000 ? (us / 1000).toFixed(1) : whole(us / 1000)} ms`);

// Commands stand between backticks.
const prose = (text) => text.split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part));

function clock(span) {
  const s = Math.max(0, Math.floor(span / 1000));
  const two = (number) => String(number).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
}

// Cells that begin with a sign or digit, or are marked so, stand to the right.
function table(id, heads, rows, none) {
  const cell = (kind) => (text, place) => make(kind, heads[place].startsWith(">") ? { class: "number" } : {}, text);
  const head = make("tr", {}, ...heads.map((text, place) => cell("th")(text.replace(/^>/, ""), place)));
  const body = rows.map((row) => make("tr", row.bad ? { class: "bad" } : {}, ...row.map(cell("td"))));
  if (body.length === 0) body.push(make("tr", {}, make("td", { class: "none", colspan: heads.length }, none ?? "nothing")));
  $(id).replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}

const STATES = {
  ready: "ready", waiting: "not ready", draining: "draining", down: "down", stale: "no document", unknown: "unknown",
};

function showHead({ status, epochs, nodes }) {
  const { node, state } = status;
  $("who").textContent = node
    ? `${node.role} of ${node.operator}` + (node.layer ? `, layer ${node.layer}` : node.layer === 0 ? "" : ", carries nothing")
    : nodes.some((one) => one.state !== "unknown") ? `a laboratory of ${nodes.length} nodes` : "no node has described itself";
  $("state").dataset.state = state;
  if ($("state-text").textContent !== STATES[state]) $("state-text").textContent = STATES[state];
  document.title = `${STATES[state]} · Fogmix`;
  const left = epochs.ends_unix_ms - status.unix_ms;
  const length = epochs.ends_unix_ms - epochs.starts_unix_ms;
  $("epoch-text").textContent = `epoch ${epochs.now}, ${clock(left)} left`;
  $("epoch-bar").style.width = `${Math.min(100, Math.max(0, 100 * (1 - left / length)))}%`;
  $("missing").hidden = status.not_ready.length === 0;
  $("missing").dataset.state = state;
  $("missing-list").replaceChildren(...status.not_ready.map((why) => make("li", {}, ...prose(why))));
  $("warnings").hidden = status.warnings.length === 0;
  $("warnings-list").replaceChildren(...status.warnings.map((why) => make("li", {}, ...prose(why))));
}

function showFigures({ status, loops }) {
  const { rates, counters, anonymity } = status;
  const figure = (text, value, bad) => make("div", bad ? { class: "bad" } : {}, make("b", {}, value), make("span", {}, text));
  const known = (of, value) => (of ? value(of) : "–");
  // Where the average is below the floor it is shown: the warning speaks of that.
  const label = "bits of anonymity" + (!anonymity ? "" : `${anonymity.is_low ? " on average" : ""}, floor\u00a0${bits(anonymity.floor)}`);
  const figures = [
    figure("received", known(rates, (r) => pace(r.received))),
    figure("sent", known(rates, (r) => pace(r.transmitted))),
    figure("dropped", known(rates, (r) => pace(r.rejected))),
    figure("held now", known(counters, (c) => whole(c.held))),
    figure(label, known(anonymity, (a) => bits(a.is_low ? a.mean_bits : a.bits ?? a.mean_bits)), anonymity?.is_low),
    figure("loops lost", known(loops?.loss, (l) => percent(l.mid)), loops?.loss && loops.loss.low > 0.1),
    figure("sessions", known(counters, (c) => whole(c.sessions))),
    figure("clients", known(counters, (c) => whole(c.clients))),
  ];
  if (counters?.unconserved > 0) figures.push(figure("not accounted for: report it", whole(counters.unconserved), true));
  $("figures").replaceChildren(...figures);
}

// The state shows by the shape too: a square is down, a triangle is not ready, a hollow circle says nothing.
function mark(node, x, y) {
  const r = node.own ? 9 : 7;
  const says = title(`${node.operator}, ${node.place}, ${STATES[node.state]}` + (node.pps === null ? "" : `, ${pace(node.pps)} in`));
  const kind = `node ${node.state}` + (node.own ? " own" : "") + (node.layer === 255 ? " off" : "");
  switch (node.state) {
    case "down": return draw("rect", { class: kind, x: x - r, y: y - r, width: 2 * r, height: 2 * r }, says);
    case "ready": case "unknown": return draw("circle", { class: kind, cx: x, cy: y, r }, says);
    default: return draw("path", { class: kind, d: `M${x} ${y - r}L${x + r} ${y + r}L${x - r} ${y + r}Z` }, says);
  }
}

// Gateways, layers one to the last, and those that carry nothing: a column each.
function showTopology({ nodes, flows }) {
  $("topology-none").hidden = nodes.length > 0;
  table("topology-table", [">index", "state", "place", "operator", ">received", ">weight", "identity"],
    nodes.slice(0, 200).map((node) => [
      node.index, (node.own ? "this node: " : "") + STATES[node.state], node.place, node.operator,
      node.pps === null ? "–" : pace(node.pps), whole(node.weight), node.identity.slice(0, 16),
    ]), "no document");
  const name = (layer) => (layer === 0 ? "gateways" : layer === 255 ? "carry nothing" : `layer ${layer}`);
  const isOfOne = nodes.some((node) => node.own);
  table("flows-table", ["from", "to", isOfOne ? ">this node's datagrams" : ">datagrams"], flows.map(([from, to, pps]) => [name(from), name(to), pace(pps)]), "no mix says what it sends");
  const layers = [...new Set(nodes.map((node) => node.layer))].sort((a, b) => a - b);
  const columns = layers.map((layer) => {
    const of = nodes.filter((node) => node.layer === layer).sort((a, b) => b.own - a.own);
    return { layer, of, shown: of.slice(0, COLUMN_NODES) };
  });
  if (columns.length === 0) return $("topology-plot").replaceChildren();
  const rows = Math.max(...columns.map((column) => column.shown.length));
  // On a phone there is no room for names: the table has them.
  const isNarrow = innerWidth < 700;
  const step = rows > 12 ? 22 : 40;
  const top = isNarrow ? 56 : 44;
  const height = top + rows * step;
  const width = isNarrow ? 420 : 1100;
  const at = (column, row) => ({
    x: ((column + 0.5) * width) / columns.length,
    y: top + (row + 0.5) * ((height - top) / columns[column].shown.length),
  });
  const most = Math.max(1, ...flows.map(([, , pps]) => pps));
  const says = (node) => node.own || node.state !== "unknown";
  const links = [];
  const marks = [];
  const carrying = columns.filter((column) => column.layer !== 255).length;
  for (let c = 0; c + 1 < carrying; c++) {
    const flow = flows.find(([from, to]) => from === columns[c].layer && to === columns[c + 1].layer)?.[2];
    columns[c].shown.forEach((from, i) => columns[c + 1].shown.forEach((to, j) => {
      const [a, b] = [at(c, i), at(c + 1, j)];
      const runs = flow !== undefined && (says(from) || says(to)) && from.state !== "down" && to.state !== "down";
      const line = draw("line", { class: runs ? "link runs" : "link", x1: a.x, y1: a.y, x2: b.x, y2: b.y });
      if (runs) line.style.strokeWidth = (1 + 3 * Math.sqrt(flow / most)).toFixed(1);
      runs ? links.push(line) : links.unshift(line);
    }));
    if (flow !== undefined) {
      const between = { class: "soft", x: (at(c, 0).x + at(c + 1, 0).x) / 2, y: isNarrow ? 36 : 16, "text-anchor": "middle" };
      marks.push(draw("text", between, `${isOfOne ? "own " : ""}${pace(flow)} →`));
    }
  }
  columns.forEach((column, c) => {
    const short = isNarrow ? name(column.layer).replace("gateways", "gates").replace("carry nothing", "none").replace("layer ", "L") : name(column.layer);
    const more = isNarrow ? 0 : column.of.length - column.shown.length;
    const head = `${short} · ${column.of.length}` + (more ? ` (${column.shown.length} shown)` : "");
    marks.push(draw("text", { class: "head", x: at(c, 0).x, y: 16, "text-anchor": "middle" }, head));
    column.shown.forEach((node, row) => {
      const { x, y } = at(c, row);
      marks.push(mark(node, x, y));
      if (!isNarrow && (node.own || rows <= 12)) {
        const bad = says(node) && node.state !== "ready" ? `, ${STATES[node.state]}` : "";
        const text = node.own ? `this node, ${STATES[node.state]}` : node.operator.slice(0, 18) + bad;
        marks.push(draw("text", { class: node.own || bad ? "" : "soft", x, y: y - 13, "text-anchor": "middle" }, text));
      }
    });
  });
  const plot = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${nodes.length} nodes in ${carrying} columns` }, ...links, ...marks);
  $("topology-plot").replaceChildren(plot);
}

function showTraffic() {
  const width = 400;
  const height = 120;
  const top = Math.max(1, ...history_.map((sample) => sample.received));
  const x = (place) => (place * width) / (HISTORY - 1);
  const y = (value) => 14 + (height - 14) * (1 - value / top);
  const points = history_.map((sample, place) => `${x(place + HISTORY - history_.length).toFixed(1)},${y(sample.received).toFixed(1)}`);
  const first = points[0]?.split(",")[0];
  const parts = [draw("line", { class: "axis", x1: 0, x2: width, y1: height, y2: height })];
  if (points.length > 1) {
    parts.push(draw("polygon", { class: "area", points: `${first},${height} ${points.join(" ")} ${width},${height}` }));
    parts.push(draw("polyline", { class: "curve", points: points.join(" ") }));
  }
  parts.push(draw("text", { class: "soft", x: 0, y: 10 }, `${pace(top)} at most`));
  $("traffic-plot").replaceChildren(draw("svg", { viewBox: `0 0 ${width} ${height + 4}`, role: "img", "aria-label": "packets received a second" }, ...parts));
  table("traffic-table", ["time", ">received", ">sent", ">dropped"], history_.slice(-10).reverse().map((sample) => [
    new Date(sample.at).toLocaleTimeString(), pace(sample.received), pace(sample.transmitted), pace(sample.rejected),
  ]), "the node says nothing");
}

function showLoops({ loops }) {
  const loss = loops?.loss;
  const counted = loops?.loops;
  const width = 400;
  const most = Math.max(0.1, loss?.high ?? 0);
  const x = (share) => 6 + ((width - 12) * share) / most;
  const parts = [draw("line", { class: "axis", x1: 6, x2: width - 6, y1: 46, y2: 46 })];
  for (const share of [0, most / 2, most]) {
    const anchor = share === 0 ? "start" : share === most ? "end" : "middle";
    parts.push(draw("text", { class: "soft", x: x(share), y: 64, "text-anchor": anchor }, percent(share)));
  }
  if (loss) {
    parts.push(draw("line", { class: "interval", x1: x(loss.low), x2: x(loss.high), y1: 34, y2: 34 }));
    parts.push(draw("circle", { class: "point", cx: x(loss.mid), cy: 34, r: 5 }, title(percent(loss.mid))));
  }
  const says = loops?.is_measured === false ? "not measured now: no loops are sent, or this machine is too late" : loss ? `${percent(loss.mid)} lost in 15 min, surely ${percent(loss.low)} to ${percent(loss.high)}` : "nothing is known yet";
  parts.push(draw("text", { x: 0, y: 14 }, says));
  $("loops-plot").replaceChildren(draw("svg", { viewBox: `0 0 ${width} 70`, role: "img", "aria-label": says }, ...parts));
  table("loops-table", [">sent", ">returned", ">lost", ">median", ">99 %"], counted ? [[
    whole(counted.sent), whole(counted.returned), whole(counted.lost), ms(counted.round_us.p50), ms(counted.round_us.p99),
  ]] : [], "the node says nothing");
  const excess = (bounded) => (bounded ? ms(bounded.mid) : "–");
  table("hops-table", [">next hop", "operator", "state", ">lost", ">surely", ">of", ">median", ">99 %"], (loops?.hops ?? []).map((hop) => Object.assign([
    hop.index, hop.operator ?? "–", hop.state, hop.loss ? percent(hop.loss.mid) : "–",
    hop.loss ? `${(100 * hop.loss.low).toFixed(1)}–${percent(hop.loss.high)}` : "–",
    whole(hop.sent), excess(hop.excess_us.p50), excess(hop.excess_us.p99),
  ], { bad: hop.state === "bad" })), "no loop's fate is known yet");
  const silence = loops?.silence;
  $("silence").textContent = silence ? `Before this node, ${silence.silent} of ${silence.of} are silent: ${silence.meaning}.` : "";
}

function showRest({ status, workers, drops, epochs }) {
  $("lateness").textContent = workers
    ? `Packets left ${ms(workers.lateness_us.p50)} late, 99 % within ${ms(workers.lateness_us.p99)}; held ${ms(workers.hold_us.p50)}, 99 % within ${ms(workers.hold_us.p99)}.`
    : "";
  table("workers-table", [">worker", ">held", ">pool used", ">sessions"], (workers?.workers ?? []).map((worker) => [
    worker.number, whole(worker.held), percent(worker.pool.in_use / Math.max(1, worker.pool.frames)), whole(worker.sessions),
  ]), "the node says nothing to mixctld");
  table("drops-table", ["reason", ">a second", ">in all", "what it means", "what to do"], (drops?.drops ?? []).map((drop) => [
    `${drop.source}: ${drop.reason}`, drop.per_s === null ? "–" : pace(drop.per_s), whole(drop.total), drop.meaning, drop.remedy,
  ]), drops ? "nothing was dropped" : "nothing is known of drops");
  table("epochs-table", [">epoch", "document", "this node", ">nodes"], epochs.epochs.map((held) => [
    held.epoch,
    held.epoch === epochs.in_force ? "in force" : held.epoch > epochs.now ? "next" : "over",
    !status.node ? "–" : held.layer === null ? (held.listed ? "waiting" : "not listed") : held.layer === 0 ? "gateway" : `layer ${held.layer}`,
    whole(held.nodes),
  ]), "none");
  const node = status.node;
  const facts = node ? [
    node.port && `port ${node.port}`, node.lanes && `lanes ${node.lanes}`, node.keys_origin && `keys ${node.keys_origin}`,
    node.sandbox && `gave up: ${node.sandbox}`, node.started_unix_ms && `up for ${clock(status.unix_ms - node.started_unix_ms)}`,
  ] : [];
  $("process").textContent = facts.filter(Boolean).join(" · ");
}

function showEvents({ events }) {
  const items = events.toReversed().map(({ unix_ms, level, text }) =>
    make("li", { class: level }, make("time", {}, new Date(unix_ms).toLocaleTimeString()), ...prose(text)));
  $("events").replaceChildren(...(items.length ? items : [make("li", { class: "none" }, "nothing has changed")]));
}

function show(now) {
  told = Date.now();
  document.body.classList.remove("closed");
  $("ask").hidden = true;
  if (now.status.rates) {
    history_.push({ at: now.status.unix_ms, ...now.status.rates });
    if (history_.length > HISTORY) history_.shift();
  }
  showHead(now);
  showFigures(now);
  showTopology(now);
  showTraffic();
  showLoops(now);
  showRest(now);
  showEvents(now);
}

function connected(how, text) {
  $("live").dataset.live = how;
  if ($("live").textContent !== text) $("live").textContent = text;
}

function askForToken(why) {
  document.body.classList.add("closed");
  $("ask").hidden = false;
  $("refused").textContent = why;
  lost("no token");
}

// What is shown is old: nobody knows how the node is.
function lost(why) {
  connected("no", why);
  $("state").dataset.state = "unknown";
  $("state-text").textContent = "unknown";
}

// Told from now on, as long as it is open; then it is asked again.
function listen() {
  const url = new URL("/ws/updates", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(url, [PROTOCOL, `token.${token}`]);
  socket.onmessage = ({ data }) => {
    show(JSON.parse(data));
    connected("yes", "live");
  };
  socket.onclose = () => {
    socket = null;
    closed = Date.now();
  };
}

async function ask() {
  const answer = await fetch("/api/v1/updates", {
    headers: { Authorization: `Bearer ${token}` }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.status === 401) {
    sessionStorage.removeItem(TOKEN);
    token = null;
    return askForToken("That token is not this mixctld's.");
  }
  if (!answer.ok) throw new Error(`mixctld answers ${answer.status}`);
  show(await answer.json());
  connected("asks", "asking once a second");
}

async function turn() {
  if (!token) return askForToken("");
  if (Date.now() - told > PATIENCE || socket === null) {
    try {
      await ask();
      if (token && socket === null && Date.now() - closed >= AGAIN) listen();
    } catch (error) {
      lost(error instanceof TypeError || error.name === "TimeoutError" ? "mixctld does not answer" : error.message);
    }
  }
  if (token) setTimeout(turn, SECOND);
}

$("ask").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  sessionStorage.setItem(TOKEN, token);
  turn();
});

turn();
