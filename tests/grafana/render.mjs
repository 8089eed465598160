// Render the dashboards with Grafana's own library and the answers of a real Prometheus.
//
// Reads {modules, dashboards, prometheus, now, range, views: {name: variables}} as JSON from stdin;
// writes {name: [panel, …]} to stdout. A panel has the texts, colours and links that a reader sees.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { View, fieldRegistry, registerTransformations, transform, valueAt } from './shared.mjs';

const order = JSON.parse(fs.readFileSync(0, 'utf8'));
const require = createRequire(path.join(path.resolve(order.modules), 'index.js'));

// The clock is stopped at the scenarios' time, so that "an hour ago" stays an hour ago.
const SystemDate = Date;
globalThis.Date = class extends SystemDate {
  constructor(...parts) { super(...(parts.length ? parts : [order.now * 1000])); }
  static now() { return order.now * 1000; }
};

// The library expects a browser.
const { JSDOM, VirtualConsole } = require('jsdom');
const { window } = new JSDOM('<!doctype html>', { url: 'http://localhost/', virtualConsole: new VirtualConsole() });
for (const key of ['document', 'navigator', 'HTMLElement', 'Element', 'Node', 'localStorage', 'sessionStorage',
  'DOMParser', 'location', 'MutationObserver', 'getComputedStyle']) {
  Object.defineProperty(globalThis, key, { value: window[key], configurable: true, writable: true });
}
Object.defineProperty(globalThis, 'window', { value: window, configurable: true, writable: true });

const G = require('@grafana/data');
const major = parseInt(require('@grafana/data/package.json').version, 10);
registerTransformations(G, { lazy: major >= 13 });
const theme = G.createTheme();
const common = { theme, timeZone: 'utc' };
const text = (value) => G.formattedValueToString(value);

async function ask(endpoint, form) {
  const answer = await fetch(`${order.prometheus}/api/v1/${endpoint}`, { method: 'POST', body: new URLSearchParams(form) });
  const body = await answer.json();
  if (body.status !== 'success') throw new Error(`${body.error}: ${form.query}`);
  return body.data.result;
}

async function show(view, panel) {
  const shown = { type: panel.type, title: panel.title };
  if (!panel.targets) return shown;
  const { fieldConfig, options } = panel;
  const replaceVariables = view.interpolator(G);
  const data = G.applyFieldOverrides({
    ...common, fieldConfig, replaceVariables, fieldConfigRegistry: fieldRegistry(G),
    data: await transform(G, panel.transformations, await view.frames(G, panel, ask)),
  });
  if (panel.type === 'stat' || panel.type === 'bargauge') {
    const values = G.getFieldDisplayValues({ ...common, data, fieldConfig, replaceVariables, reduceOptions: options.reduceOptions });
    // The name of a single value is not shown, unless the panel shows names.
    const named = values.length > 1 || panel.type === 'bargauge' || options.textMode !== 'auto';
    const cell = ({ display, view: _, getLinks }) => ({
      text: text(display),
      colour: display.color, ...(named ? { name: display.title ?? '' } : {}),
      ...(getLinks?.({})?.[0] ? { href: getLinks({})[0].href } : {}),
    });
    return { ...shown, values: values.map(cell) };
  }
  if (panel.type === 'table') return { ...shown, ...table(data), message: fieldConfig.defaults.noValue };
  return { ...shown, series: data.map((frame) => series(frame, data)) };
}

function table(frames) {
  const [frame] = frames;
  const fields = (frame?.fields ?? []).filter((field) => !field.config.custom?.hidden);
  const cell = (field, row) => {
    const value = valueAt(field, row);
    const display = field.display(value);
    const link = field.getLinks?.({ valueRowIndex: row })?.[0];
    return { text: text(display), colour: display.color, ...(link ? { href: link.href } : {}) };
  };
  return {
    frames: frames.filter(({ length }) => length).length,
    columns: fields.map((field) => G.getFieldDisplayName(field, frame, frames)),
    rows: Array.from({ length: frame?.length ?? 0 }, (_, row) => fields.map((field) => cell(field, row))),
  };
}

function series(frame, frames) {
  const [, field] = frame.fields;
  const shown = Array.from({ length: frame.length }, (_, index) => valueAt(field, index))
    .filter((value) => value !== null).map((value) => field.display(value));
  const colour = field.config.color?.fixedColor ?? shown.at(-1)?.color;
  return { name: G.getFieldDisplayName(field, frame, frames), colour, texts: [...new Set(shown.map(text))] };
}

const dashboards = fs.readdirSync(order.dashboards).filter((file) => file.endsWith('.json')).sort()
  .map((file) => JSON.parse(fs.readFileSync(path.join(order.dashboards, file), 'utf8')));
const result = {};
for (const [name, variables] of Object.entries(order.views)) {
  result[name] = [];
  for (const dashboard of dashboards) {
    const view = new View(dashboard, { variables, now: order.now, range: order.range });
    for (const panel of dashboard.panels.filter(({ type }) => type !== 'row')) {
      result[name].push({ dashboard: dashboard.uid, ...await show(view, panel) });
    }
  }
}
process.stdout.write(JSON.stringify(result));
// jsdom keeps timers.
process.exitCode = 0;
window.close();
