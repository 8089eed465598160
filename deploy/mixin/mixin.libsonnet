// The alerts and dashboards for those who keep theirs in jsonnet. As it comes it is what alerts/ and
// dashboards/ hold; `_config` changes it:
//
//   (import 'mixin.libsonnet') + { _config+:: { selector: 'cluster="research"' } }
local rules = std.parseYaml(importstr '../../alerts/cavatica-exports.rules.yml');

// Where a threshold stands: in which alert, in which words, and how it is shipped.
local places = {
  failureRatio: { alert: 'CavaticaExportFailureRatioHigh', text: '> %s', value: '0.25' },
  failureRatioMinimumExports: { alert: 'CavaticaExportFailureRatioHigh', text: '>= %s', value: '8' },
  rateLimitRemainingRatio: { alert: 'CavaticaApiRateLimited', text: '< %s', value: '0.1' },
  stuckRunningSeconds: { alert: 'CavaticaExportsStuckRunning', text: '> %s', value: '86400' },
};

// [[is a word, text], ...]: a name of a series is one word, recorded ones with their colons.
local words(text) = std.foldl(
  function(found, char)
    local word = std.member('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:', char);
    local last = std.length(found) - 1;
    if last >= 0 && found[last][0] == word
    then found[:last] + [[word, found[last][1] + char]]
    else found + [[word, char]],
  std.stringChars(text),
  []
);

// Add matchers to every series of the exporter. What is recorded of them needs none.
local select(expression, matchers) =
  local parts = words(expression);
  local exported(index) = index >= 0 && parts[index][0] && std.startsWith(parts[index][1], 'cavatica_');
  local braced(index) = index < std.length(parts) && std.startsWith(parts[index][1], '{');
  if matchers == '' then expression
  else std.join('', std.mapWithIndex(
    function(index, part)
      if exported(index) then '%s{%s%s' % [part[1], matchers, if braced(index + 1) then ',' else '}']
      else if exported(index - 1) && braced(index) then part[1][1:]
      else part[1],
    parts
  ));

{
  _config:: {
    // Where runbooks are read: '#' and the alert's name in small letters follow.
    runbookUrl: null,
    // Matchers for every series, such as 'cluster="research",job="cavatica"'.
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
