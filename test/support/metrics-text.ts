import { existsSync, readFileSync, writeFileSync } from 'node:fs';

/** A metric as a process exports it. */
export interface ExportedMetric {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  /** Undefined where nothing was exported under the name yet. */
  readonly labels: readonly string[] | undefined;
}

/** Metrics of Kaimai itself. Those of Node come from the Prometheus client, for the primary under `kaimai_primary_`. */
const OWN = /^kaimai_(?!primary_)/;

/** @param text of /metrics */
export function parseMetrics(text: string): ExportedMetric[] {
  const lines = text.split('\n');
  const value = (keyword: string, name: string) => {
    const prefix = `# ${keyword} ${name} `;
    return lines.find((line) => line.startsWith(prefix))?.slice(prefix.length) ?? '';
  };
  const names = lines.flatMap((line) => /^# TYPE (\S+) /.exec(line)?.[1] ?? []).filter((name) => OWN.test(name));
  return names.map((name) => {
    const sample = new RegExp(`^${name}(?:_bucket|_sum|_count)?(?:\\{([^}]*)\\})? `);
    const found = lines.flatMap((line) => sample.exec(line) ?? []).filter((part) => part !== undefined);
    const labels = new Set(
      lines.flatMap((line) => [...(sample.exec(line)?.[1] ?? '').matchAll(/(\w+)=/g)].map(([, label = '']) => label)),
    );
    labels.delete('le');
    return {
      name,
      type: value('TYPE', name),
      help: value('HELP', name),
      labels: found.length > 0 ? [...labels] : undefined,
    };
  });
}

/** The value of a series; undefined where it is not exported. @param series such as `kaimai_ready` or `a_total{b="c"}` */
export function seriesValue(text: string, series: string): number | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

/** A row of the table of docs/metrics.md. */
export interface DocumentedMetric extends ExportedMetric {
  readonly labels: readonly string[];
  /** The processes that export it. */
  readonly processes: string;
}

const BEGIN = '<!-- exported -->';
const END = '<!-- /exported -->';

export function documentedMetrics(file: string): DocumentedMetric[] {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const table = text.slice(text.indexOf(BEGIN), text.indexOf(END));
  const row = /^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \| (.*) \|$/gm;
  return [...table.matchAll(row)].map(([, name = '', type = '', labels = '', processes = '', help = '']) => ({
    name,
    type,
    labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label = '']) => label),
    processes: processes.trim(),
    help,
  }));
}

export function writeDocumentedMetrics(file: string, metrics: readonly DocumentedMetric[]): void {
  const text = readFileSync(file, 'utf8');
  const rows = metrics.map(({ name, type, labels, processes, help }) => {
    return `| \`${name}\` | ${type} | ${labels.map((l) => `\`${l}\``).join(', ')} | ${processes} | ${help} |`;
  });
  const table = [BEGIN, '| metric | type | labels | process | meaning |', '|---|---|---|---|---|', ...rows, ''];
  writeFileSync(file, text.slice(0, text.indexOf(BEGIN)) + table.join('\n') + text.slice(text.indexOf(END)));
}
