// Shared by the tests in Node and the pictures in a browser: the registries that Grafana's
// application fills, its variables, and data frames of Prometheus' answers.
//
// Grafana's Prometheus data source is not published under a licence that we can use. So the code
// that makes frames of answers and interpolates variables is written here, after the documented
// behaviour. Everything else is done by @grafana/data.

const CUSTOM = [
  'align', 'axisSoftMax', 'cellOptions', 'drawStyle', 'fillOpacity', 'filterable', 'hidden', 'hideFrom',
  'lineInterpolation', 'lineWidth', 'showPoints', 'spanNulls', 'stacking', 'width',
];

// Return the registry of field options, with the library's own processors.
export function fieldRegistry(G) {
  const processors = {
    color: G.identityOverrideProcessor,
    decimals: G.numberOverrideProcessor,
    displayName: G.displayNameOverrideProcessor,
    links: G.dataLinksOverrideProcessor,
    mappings: G.valueMappingsOverrideProcessor,
    max: G.numberOverrideProcessor,
    min: G.numberOverrideProcessor,
    noValue: G.stringOverrideProcessor,
    thresholds: G.thresholdsOverrideProcessor,
    unit: G.unitOverrideProcessor,
  };
  const common = { shouldApply: () => true, override: true };
  return new G.FieldConfigOptionsRegistry(() => [
    ...Object.entries(processors).map(([id, process]) => ({ ...common, id, path: id, name: id, process })),
    ...CUSTOM.map((id) => ({
      ...common, id: `custom.${id}`, path: id, name: id, isCustom: true, process: G.identityOverrideProcessor,
    })),
  ]);
}

// Fill the registry of transformations; newer versions load each one lazily.
export function registerTransformations(G, { lazy }) {
  const known = new Map(Object.values(G.standardTransformers).map((each) => [each.id, each]));
  G.standardTransformersRegistry.setInit(() => [...known.values()].map((each) => (
    { id: each.id, name: each.id, transformation: lazy ? () => Promise.resolve(each) : each }
  )));
}

export function transform(G, transformations, frames) {
  return new Promise((resolve, reject) => {
    let last = frames;
    G.transformDataFrame(transformations ?? [], frames, { interpolate: (text) => text })
      .subscribe({ next: (value) => { last = value; }, complete: () => resolve(last), error: reject });
  });
}

// A view is a dashboard with values of its variables, at one time.
export class View {
  constructor(dashboard, { variables, now, range }) {
    this.dashboard = dashboard;
    this.now = now;
    this.range = range;
    this.variables = variables;
  }

  values(variable) {
    return this.variables[variable.name] ?? (variable.includeAll ? ['$__all'] : []);
  }

  find(name) {
    return this.dashboard.templating.list.find((each) => each.name === name);
  }

  // Return a query as the Prometheus data source sends it.
  query(text, intervals) {
    return text.replace(/\$\{?(\w+)\}?/g, (all, name) => {
      if (name in intervals) return intervals[name];
      const variable = this.find(name);
      if (!variable) return all;
      const values = this.values(variable);
      if (values.includes('$__all')) return variable.allValue;
      if (!variable.multi) return (values[0] ?? '').replace(/\\/g, '\\\\').replace(/"/g, '\\"');
      const escaped = values.map(escapeRegex);
      return escaped.length === 1 ? escaped[0] : `(${escaped.join('|')})`;
    });
  }

  // Return a function that fills the variables of links.
  interpolator(G) {
    return (text, scoped = {}) => String(text).replace(/\$\{([^}]+)\}/g, (all, inner) => {
      const [name, format] = inner.split(':');
      if (name === '__url_time_range') return 'from=now-24h&to=now';
      if (name.startsWith('__')) {
        const value = lookUp(G, name, scoped);
        if (value === undefined || value === null) return all;
        return format === 'percentencode' ? encode(String(value)) : String(value);
      }
      const variable = this.find(name);
      if (!variable) return all;
      const values = variable.type === 'datasource' ? ['prometheus'] : this.values(variable);
      return format === 'queryparam'
        ? values.map((value) => `var-${name}=${encode(value)}`).join('&')
        : values.join(',');
    });
  }

  // Run a panel's queries and return data frames; `ask` posts to Prometheus' API.
  async frames(G, panel, ask) {
    const answers = await Promise.all((panel.targets ?? []).map((target) => this.answer(target, ask)));
    const tables = (panel.targets ?? []).filter((target) => target.format === 'table').length;
    return answers.flatMap(({ target, expr, step, result }) => (
      target.format === 'table'
        ? [tableFrame(G, result, target, tables)]
        : result.map((series) => seriesFrame(G, series, { target, expr, step, view: this }))
    ));
  }

  async answer(target, ask) {
    const shortest = target.interval ? 60 : 15;
    const step = Math.max(shortest, Math.ceil(this.range / 800 / shortest) * shortest);
    const expr = this.query(target.expr, {
      __rate_interval: `${Math.max(step + shortest, 4 * shortest)}s`,
      __interval: `${step}s`,
    });
    const result = target.instant
      ? await ask('query', { query: expr, time: this.now })
      : await ask('query_range', { query: expr, start: this.now - this.range, end: this.now, step });
    return { target, expr, step, result };
  }
}

function escapeRegex(text) {
  return text.replace(/\\/g, '\\\\\\\\').replace(/"/g, '\\\\\\"').replace(/[$^*{}[\]'+?.()|]/g, '\\\\$&');
}

function encode(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function lookUp(G, name, scoped) {
  const [head, ...rest] = name.split('.');
  const context = scoped.__dataContext?.value;
  let node = scoped[head]?.value;
  if (node === undefined && context) {
    const { frame, rowIndex, field } = context;
    if (head === '__data') node = { fields: G.getFieldDisplayValuesProxy({ frame, rowIndex, timeZone: 'utc' }) };
    if (head === '__field') node = { name: G.getFieldDisplayName(field, frame), labels: field.labels ?? {} };
    if (head === '__value') node = context.calculatedValue ?? field.display(valueAt(field, rowIndex));
  }
  for (const part of rest) node = node?.[part];
  return node !== null && typeof node === 'object' ? node.toString() : node;
}

export function valueAt(field, index) {
  return field.values.get ? field.values.get(index) : field.values[index];
}

function tableFrame(G, result, target, tables) {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const string = (label) => ({
    name: label, type: 'string', config: { filterable: true },
    values: result.map(({ metric }) => metric[label] ?? ''),
  });
  const value = tables > 1 ? `Value #${target.refId}` : 'Value';
  return G.toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: 'time', config: {}, values: result.map((each) => each.value[0] * 1000) },
      ...labels.map(string),
      { name: value, type: 'number', config: {}, values: result.map((each) => Number(each.value[1])) },
    ],
  });
}

function seriesFrame(G, { metric, value, values }, { target, expr, step, view }) {
  const name = legend(target.legendFormat, metric, expr);
  const points = values ? withGaps(values, view, step) : [value];
  return G.toDataFrame({
    refId: target.refId, name,
    fields: [
      { name: 'Time', type: 'time', config: { interval: step * 1000 }, values: points.map((p) => p[0] * 1000) },
      {
        name: 'Value', type: 'number', labels: metric, config: { displayNameFromDS: name },
        values: points.map((p) => (p[1] === null ? null : Number(p[1]))),
      },
    ],
  });
}

// Return the name of a series; if it is empty, the text of the query.
function legend(format, metric, expr) {
  return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => metric[label] ?? '').trim() || expr;
}

// Return the points with a null at each step that has no answer.
function withGaps(points, { now, range }, step) {
  const known = new Map(points.map(([time, value]) => [time, value]));
  const count = Math.floor(range / step);
  return Array.from({ length: count + 1 }, (_, index) => {
    const time = now - range + index * step;
    return [time, known.get(time) ?? null];
  });
}
