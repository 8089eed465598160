// Draw a dashboard with Grafana's own components: panels, tiles, bars, tables and graphs.
//
// Imitated are the grid, rows, the bar of variables, state timelines and text panels, which are not
// published. The list of alerts is left empty: it needs a Grafana server.
import React from 'react';
import { createRoot } from 'react-dom/client';
import * as G from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, PanelContextProvider, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { View, fieldRegistry, registerTransformations, transform, valueAt } from '../shared.mjs';

const parameters = new URLSearchParams(location.search);
const now = Number(parameters.get('now'));
const theme = G.createTheme({ colors: { mode: parameters.get('mode') ?? 'light' } });
const common = { theme, timeZone: 'utc' };
const UNIT = 38; // pixels of a row of Grafana's grid, with the gap
const GAP = 8;

registerTransformations(G, { lazy: true });

async function ask(endpoint, form) {
  const answer = await fetch(`/api/v1/${endpoint}`, { method: 'POST', body: new URLSearchParams(form) });
  const body = await answer.json();
  if (body.status !== 'success') throw new Error(`${body.error}: ${form.query}`);
  return body.data.result;
}

function Message({ text }) {
  return <div style={{ padding: 20, textAlign: 'center', color: theme.colors.text.secondary }}>{text}</div>;
}

function Tiles({ panel, values, width, height }) {
  const { colorMode, graphMode, justifyMode, orientation, textMode } = panel.options;
  const below = orientation === 'horizontal';
  const share = (total) => (total - 4 * (values.length - 1)) / values.length;
  const shown = textMode === 'auto' ? (values.length > 1 ? 'value_and_name' : 'value') : textMode;
  return (
    <div style={{ display: 'flex', flexDirection: below ? 'column' : 'row', gap: 4 }}>
      {values.map((value, index) => (
        <BigValue
          key={index} value={value.display} count={values.length} theme={theme}
          width={below ? width : share(width)} height={below ? share(height) : height}
          colorMode={colorMode} graphMode={graphMode} justifyMode={justifyMode} textMode={shown}
        />
      ))}
    </div>
  );
}

function Bars({ panel, values, width, height }) {
  const { displayMode, maxVizHeight, minVizHeight, namePlacement, orientation, showUnfilled, valueMode } = panel.options;
  const free = (height - 10 * (values.length - 1)) / values.length;
  const bar = Math.min(maxVizHeight, Math.max(minVizHeight, free));
  return (
    <div style={{ height, overflow: 'hidden' }}>
      {values.map((value, index) => (
        <div key={index} style={{ marginBottom: 10 }}>
          <BarGauge
            value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
            width={width} height={bar} theme={theme} orientation={orientation} displayMode={displayMode}
            showUnfilled={showUnfilled} valueDisplayMode={valueMode} namePlacement={namePlacement}
            itemSpacing={10} alignmentFactors={G.getDisplayValueAlignmentFactors(values)}
          />
        </div>
      ))}
    </div>
  );
}

function Bands({ data, height }) {
  const band = Math.min(60, (height - 20) / data.length);
  return data.map((frame, index) => {
    const [, field] = frame.fields;
    const pieces = [];
    for (let i = 0; i < frame.length; i += 1) {
      const value = valueAt(field, i);
      if (pieces.at(-1)?.value === value) pieces.at(-1).length += 1;
      else pieces.push({ value, length: 1, ...(value === null ? { text: '', color: 'transparent' } : field.display(value)) });
    }
    return (
      <div key={index} style={{ display: 'flex', height: band, alignItems: 'center', fontSize: 12 }}>
        <div style={{ width: 150, overflow: 'hidden', whiteSpace: 'nowrap' }}>{G.getFieldDisplayName(field, frame, data)}</div>
        <div style={{ display: 'flex', flex: 1, height: '80%' }}>
          {pieces.map((piece, place) => (
            <div key={place} style={{ flex: piece.length, background: piece.color, color: '#000', overflow: 'hidden', whiteSpace: 'nowrap' }}>
              {piece.text}
            </div>
          ))}
        </div>
      </div>
    );
  });
}

function Body({ panel, data, view, width, height }) {
  const { fieldConfig, options } = panel;
  if (panel.type === 'text') return <div dangerouslySetInnerHTML={{ __html: G.renderMarkdown(options.content) }} />;
  if (panel.type === 'alertlist') return <Message text="(Grafana lists its alerts here)" />;
  if (panel.type === 'stat' || panel.type === 'bargauge') {
    const values = G.getFieldDisplayValues({
      ...common, data, fieldConfig, reduceOptions: options.reduceOptions, replaceVariables: (text) => text,
    });
    const Kind = panel.type === 'stat' ? Tiles : Bars;
    return <Kind panel={panel} values={values} width={width} height={height} />;
  }
  if (panel.type === 'table') {
    const [frame] = data;
    if (!frame?.length) return <Message text={fieldConfig.defaults.noValue} />;
    return (
      <TableNG
        data={frame} width={width} height={height} fieldConfig={fieldConfig} sortBy={options.sortBy}
        timeRange={range(view)} structureRev={1} cellHeight="sm" getActions={() => []}
      />
    );
  }
  if (!data.length) return <Message text={fieldConfig.defaults.noValue ?? 'No data'} />;
  if (panel.type === 'state-timeline') return <Bands data={data} height={height} />;
  return (
    <PanelContextProvider value={{ eventsScope: 'x', eventBus: new G.EventBusSrv(), canAddAnnotations: () => false }}>
      <TimeSeries
        frames={data} structureRev={1} timeRange={range(view)} timeZone="utc" width={width} height={height}
        legend={options.legend} options={options}
      />
    </PanelContextProvider>
  );
}

function range(view) {
  return { from: G.dateTime((now - view.range) * 1000), to: G.dateTime(now * 1000), raw: { from: 'now', to: 'now' } };
}

class Guard extends React.Component {
  state = {};

  static getDerivedStateFromError(error) { return { error }; }

  render() { return this.state.error ? <pre>{String(this.state.error)}</pre> : this.props.children; }
}

async function draw(view, panel, column) {
  const place = panel.gridPos;
  const box = {
    position: 'absolute', left: place.x * column, top: place.y * UNIT,
    width: place.w * column - GAP, height: place.h * UNIT - GAP,
  };
  if (panel.type === 'row') {
    return <div key={panel.id} style={{ ...box, fontWeight: 500, fontSize: 16, paddingTop: 4 }}>⌄ {panel.title}</div>;
  }
  const fieldConfig = panel.fieldConfig ?? { defaults: {}, overrides: [] };
  const data = G.applyFieldOverrides({
    ...common, fieldConfig, fieldConfigRegistry: fieldRegistry(G), replaceVariables: view.interpolator(G),
    data: await transform(G, panel.transformations, await view.frames(G, panel, ask)),
  });
  G.cacheFieldDisplayNames(data);
  const padding = panel.type === 'table' ? 'none' : 'md';
  return (
    <div key={panel.id} style={box}>
      <PanelChrome
        title={panel.title} description={panel.description} width={box.width} height={box.height} padding={padding}
        displayMode={panel.transparent ? 'transparent' : 'default'} hoverHeader={!panel.title}
      >
        {(width, height) => <Guard><Body panel={panel} data={data} view={view} width={width} height={height} /></Guard>}
      </PanelChrome>
    </div>
  );
}

async function main() {
  const dashboard = await (await fetch(`/dashboards/${parameters.get('uid')}.json`)).json();
  const chosen = Object.fromEntries([...parameters.keys()].filter((key) => key.startsWith('var-'))
    .map((key) => [key.slice(4), parameters.getAll(key)]));
  const view = new View(dashboard, { variables: chosen, now, range: Number(parameters.get('range')) });
  const width = document.documentElement.clientWidth - 32;
  const height = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * UNIT;
  const panels = await Promise.all(dashboard.panels.map((panel) => draw(view, panel, (width + GAP) / 24)));
  const shown = (variable) => (variable.type === 'datasource' ? 'Prometheus'
    : view.values(variable).map((value) => (value === '$__all' ? 'All' : value)).join(' + '));
  createRoot(document.getElementById('root')).render(
    <G.ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary, padding: 16, fontSize: 14 }}>
        <div style={{ fontSize: 18, fontWeight: 500, height: 32 }}>{dashboard.title}</div>
        <div style={{ height: 36 }}>
          {dashboard.templating.list.map((variable) => (
            <span key={variable.name} style={{ marginRight: 12 }}>
              {variable.label}{' '}
              <span style={{ border: `1px solid ${theme.colors.border.medium}`, padding: '3px 8px' }}>{shown(variable)}</span>
            </span>
          ))}
        </div>
        <div style={{ position: 'relative', height }}>{panels}</div>
      </div>
    </G.ThemeContext.Provider>,
  );
}

main().catch((error) => { document.body.innerText = error.stack; });
