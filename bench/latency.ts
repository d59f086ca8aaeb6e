/** Latencies of Purchase and of rpc-limit at shares of Purchase's peak, and of the disk that both wait for or not. */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from './bench.js';
import { type Figures, interleave, type Measure } from './figures.js';
import { ID, type LATENCIES, latencyOf, SHARES_OF_PEAK } from './goals.js';
import { type Load, unaryLoad } from './load.js';

const SYNCS = 300;
const BLOCK = Buffer.alloc(4_096, 1);

/** What is measured under the name `id`, and its calls. */
export interface LatencyTarget {
  readonly id: string;
  readonly call: { readonly path: string; readonly body: Uint8Array; readonly target: string };
}

/** All at the same rates: a slower server must not look better because it has less to do. */
export async function measureLatency(bench: Bench, targets: readonly LatencyTarget[]): Promise<void> {
  const { plan, generators, figures, onLine, stage } = bench;
  const peak = figures.median(ID.purchase);
  if (peak === undefined) return;
  const measures: Measure[] = [
    {
      id: ID.fsyncP99,
      run: async () => {
        const times = syncTimes(stage.folder);
        figures.add(ID.fsyncP50, at(times, 0.5));
        return at(times, 0.99);
      },
    },
    ...SHARES_OF_PEAK.flatMap((share) =>
      targets.map(({ id, call }) => ({
        id: latencyOf(id, share, 'p99'),
        run: async () => {
          const load: Load = await unaryLoad(generators, { ...call, seconds: plan.seconds, perSecond: peak * share });
          if (load.p99Ms === undefined || load.p50Ms === undefined) throw new Error('no call got a reply');
          figures.add(latencyOf(id, share, 'p50'), load.p50Ms);
          return load.p99Ms;
        },
      })),
    ),
  ];
  await interleave(measures, plan.rounds, figures, onLine);
}

/** Sorted times in ms of writing 4 KiB to a file and waiting for the disk, as Redis does for each batch of calls. */
function syncTimes(parent: string): readonly number[] {
  const folder = mkdtempSync(join(parent, 'fsync-'));
  const file = openSync(join(folder, 'file'), 'w');
  try {
    const times = Array.from({ length: SYNCS }, () => {
      const startedAt = performance.now();
      writeSync(file, BLOCK);
      fdatasyncSync(file);
      return performance.now() - startedAt;
    });
    return times.sort((a, b) => a - b);
  } finally {
    closeSync(file);
    rmSync(folder, { recursive: true, force: true });
  }
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

const CHART = { left: 70, top: 60, width: 620, height: 300, bar: 34, gap: 6, group: 200 };
const SERIES = [
  { id: ID.rpc, of: 'p50', fill: '#c9d0d6' },
  { id: ID.rpc, of: 'p99', fill: '#9aa4ad' },
  { id: ID.purchase, of: 'p50', fill: '#7fc8b0' },
  { id: ID.purchase, of: 'p99', fill: '#0a7d5a' },
] as const satisfies readonly { id: string; of: (typeof LATENCIES)[number]; fill: string }[];

/** A group of bars for each share of the peak, and a line for the disk; undefined if nothing was measured. */
export function latencyPicture(figures: Figures, title: string): string | undefined {
  const bars = SHARES_OF_PEAK.flatMap((share, group) =>
    SERIES.flatMap(({ id, of, fill }, i) => {
      const ms = figures.median(latencyOf(id, share, of));
      return ms === undefined ? [] : [{ group, i, fill, ms, name: `${id} ${of}` }];
    }),
  );
  if (bars.length === 0) return undefined;
  const disk = figures.median(ID.fsyncP99);
  const most = Math.max(...bars.map((bar) => bar.ms), disk ?? 0);
  const bottom = CHART.top + CHART.height;
  const y = (ms: number) => bottom - (CHART.height * ms) / most;
  const body = bars.map(({ group, i, fill, ms }) => {
    const x = CHART.left + group * CHART.group + i * (CHART.bar + CHART.gap);
    return [
      `<rect x="${x}" y="${y(ms).toFixed(1)}" width="${CHART.bar}" height="${(bottom - y(ms)).toFixed(1)}" rx="2" fill="${fill}"/>`,
      `<text x="${x + CHART.bar / 2}" y="${(y(ms) - 4).toFixed(1)}" text-anchor="middle" font-size="11">${ms.toFixed(1)}</text>`,
    ].join('\n');
  });
  const groups = SHARES_OF_PEAK.map((share, group) => {
    const x = CHART.left + group * CHART.group + (SERIES.length * (CHART.bar + CHART.gap)) / 2;
    return `<text x="${x}" y="${bottom + 20}" text-anchor="middle">${Math.round(share * 100)} % of Purchase's peak</text>`;
  });
  const legend = SERIES.map(({ id, of, fill }, i) => {
    const x = CHART.left + i * 150;
    return `<rect x="${x}" y="${bottom + 38}" width="12" height="12" fill="${fill}"/><text x="${x + 18}" y="${bottom + 49}">${id}, ${of}</text>`;
  });
  const line =
    disk === undefined
      ? []
      : [
          `<line x1="${CHART.left - 10}" x2="${CHART.left + CHART.width}" y1="${y(disk).toFixed(1)}" y2="${y(disk).toFixed(1)}" stroke="#b23a48" stroke-dasharray="5 4"/>`,
          `<text x="${CHART.left + CHART.width}" y="${(y(disk) - 5).toFixed(1)}" text-anchor="end" fill="#b23a48">fsync, p99: ${disk.toFixed(1)} ms</text>`,
        ];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="760" height="440" viewBox="0 0 760 440" font-family="system-ui, sans-serif" font-size="13" fill="#1c2126">
<rect width="760" height="440" fill="#ffffff"/>
<text x="16" y="26" font-size="16" font-weight="600">Latency in ms, median of the rounds</text>
<text x="16" y="44" fill="#5b6670">${title.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>
${[...body, ...groups, ...legend, ...line].join('\n')}
</svg>
`;
}
