import { readFileSync, writeFileSync } from 'node:fs';
import type { RoundResult } from './round.js';

const BEGIN = '<!-- table: written by `make chaos C=--write` -->';
const END = '<!-- end of table -->';

/** One line per fault, in the order of their first rounds. */
export function tableOf(results: readonly RoundResult[]): string {
  const byFault = new Map<string, RoundResult[]>();
  for (const result of results) byFault.set(result.fault, [...(byFault.get(result.fault) ?? []), result]);
  const lines = [...byFault].map(([fault, rounds]) => {
    const sum = (of: (r: RoundResult) => number) => rounds.reduce((total, r) => total + of(r), 0);
    const cells = [
      fault,
      rounds.length,
      seconds(rounds.map((r) => r.firstSuccessMs)),
      seconds(rounds.map((r) => r.restMs)),
      sum((r) => r.queued),
      sum((r) => r.lost),
      sum((r) => r.contradictions.length),
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    '| fault | rounds | first success, s | rest, s | admitted | of these lost | contradictions |',
    '|---|---:|---:|---:|---:|---:|---:|',
    ...lines,
  ].join('\n');
}

/** Replaces the table of a document. */
export function writeTable(file: string, table: string): void {
  const text = readFileSync(file, 'utf8');
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${file} has no place for the table`);
  writeFileSync(file, `${text.slice(0, begin + BEGIN.length)}\n${table}\n${text.slice(end)}`);
}

/** The median, and the longest where there are several. */
function seconds(times: readonly number[]): string {
  const sorted = [...times].sort((a, b) => a - b);
  const shown = (ms: number) => (ms / 1_000).toFixed(1);
  const median = shown(sorted[Math.floor((sorted.length - 1) / 2)]!);
  return sorted.length === 1 ? median : `${median} (${shown(sorted.at(-1)!)})`;
}
