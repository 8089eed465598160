// The alerts and dashboards for those who keep theirs in jsonnet. As it comes it is what alerts/ and
// dashboards/ hold; `_config` changes it:
//
//   (import 'mixin.libsonnet') + { _config+:: { selector: 'cluster="research"' } }
//
// For jsonnet-bundler, name the whole repository, not this folder: the other two belong to it.
local rules = std.parseYaml(importstr '../../alerts/cavatica-exports.rules.yml');

// Where a threshold stands: in which alert, in which words, and how it is shipped.
local places = {
  failureRatio: { alert: 'CavaticaExportFailureRatioHigh', text: '> %s', value: '0.25' },
  failureRatioMinimumExports: { alert: 'CavaticaExportFailureRatioHigh', text: '>= %s', value: '8' },
  rateLimitRemainingRatio: { alert: 'CavaticaApiRateLimited', text: '< %s', value: '0.1' },
  stuckRunningSeconds: { alert: 'CavaticaExportsStuckRunning', text: '> %s', value: '86400' },
};

local isWord(char) =
  std.member('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:', char);

// How many letters of a word a text has from a place on.
local wordLength(text, from=0) =
  if from < std.length(text) && isWord(text[from]) then wordLength(text, from + 1) else from;

// Split matchers at the commas between them, not at those in a quoted value.
local split(matchers) =
  local step(state, char) =
    local quote = state.quote;
    if quote == '' && char == ',' then state { pieces+: [''] }
    else {
      pieces: state.pieces[:std.length(state.pieces) - 1] + [state.pieces[std.length(state.pieces) - 1] + char],
      escaped: !state.escaped && char == '\\',
      quote:
        if state.escaped then quote
        else if quote == '' && std.member('"\'`', char) then char
        else if quote == char then ''
        else quote,
    };
  std.foldl(step, std.stringChars(matchers), { pieces: [''], quote: '', escaped: false }).pieces;

// node_exporter, or whatever else serves the metrics file, is a target of its own: the exporter's job and instance
// are not its.
local ofDiscovery(matchers) =
  local label(matcher) =
    local text = std.stripChars(matcher, ' ');
    text[:wordLength(text)];
  std.join(',', std.filter(function(each) !std.member(['job', 'instance'], label(each)), split(matchers)));

// Add matchers to every series of the exporter. What is recorded of them, with colons in its name, needs none.
local select(expression, matchers) =
  local prefix = 'cavatica_';
  local pieces = std.split(expression, prefix);
  local selected(before, piece) =
    local length = wordLength(piece);
    local name = piece[:length];
    local rest = piece[length:];
    local recorded = before != '' && isWord(before[std.length(before) - 1]) || std.member(name, ':');
    local own = if std.startsWith(name, 'discover_') then ofDiscovery(matchers) else matchers;
    if recorded || own == '' then prefix + piece
    else '%s%s{%s%s' % [prefix, name, own, if std.startsWith(rest, '{') then ',' + rest[1:] else '}' + rest];
  if matchers == '' then expression
  else pieces[0] + std.join('', [
    selected(pieces[index - 1], pieces[index])
    for index in std.range(1, std.length(pieces) - 1)
  ]);

{
  _config:: {
    // Where runbooks are read: '#' and the alert's name in small letters follow.
    runbookUrl: null,
    // Matchers for every series, such as 'cluster="research",job="cavatica"'. Those of job and instance are left out
    // for the metrics file of `cavatica-exports discover`, which another job serves.
    selector: '',
    // The severity of each shipped severity, and of single alerts, which count more.
    severities: { critical: 'critical', warning: 'warning', info: 'info' },
    severityOf: {},
    // The four that are above, as texts: { failureRatio: '0.5' }.
    thresholds: std.mapWithKey(function(_, place) place.value, places),
  },

  local config = self._config,
  local withThresholds(rule) = std.foldl(
    function(expression, name)
      local old = places[name].text % places[name].value;
      local new = places[name].text % config.thresholds[name];
      if places[name].alert != std.get(rule, 'alert') then expression
      else if std.length(std.findSubstr(old, expression)) != 1
      then error '%s: %s must stand once in the expression of %s' % [name, old, rule.alert]
      else std.strReplace(expression, old, new),
    std.objectFields(config.thresholds),
    rule.expr
  ),

  local changed(rule) = rule {
    expr: select(withThresholds(rule), config.selector),
    [if std.objectHas(rule, 'alert') then 'labels']+: {
      severity: std.get(config.severityOf, rule.alert, config.severities[rule.labels.severity]),
    },
    [if std.objectHas(rule, 'alert') && config.runbookUrl != null then 'annotations']+: {
      runbook_url: config.runbookUrl + '#' + std.asciiLower(rule.alert),
    },
  },

  // Recording rules and alerts stand in one group, in the order in which they need each other.
  prometheusAlerts+:: {
    groups+: [group { rules: std.map(changed, group.rules) } for group in rules.groups],
  },

  grafanaDashboards+:: {
    'cavatica-export.json': import '../../dashboards/cavatica-export.json',
    'cavatica-exporter.json': import '../../dashboards/cavatica-exporter.json',
    'cavatica-exports.json': import '../../dashboards/cavatica-exports.json',
  },
}
