import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ImportGraph } from './selection.js';
import type { Workspace } from './workspace.js';

type Range = readonly [start: number, end: number];

/** What one test file runs, measured without a mutant. */
export interface TestCoverage {
  readonly passed: boolean;
  readonly durationMs: number;
  /** By compiled file, relative to dist/: the ranges of its text that ran. */
  readonly files: Readonly<Record<string, readonly Range[]>>;
}

/** A place in a compiled file. */
export interface Place {
  readonly file: string;
  readonly offset: number;
}

interface V8Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

interface V8Report {
  readonly result: readonly { readonly url: string; readonly functions: readonly { readonly ranges: V8Range[] }[] }[];
}

/**
 * Which test runs which part of the code, also in the processes that it starts. Each test file is measured when it is first
 * asked for, and again after a file that it imports has changed.
 */
export class Coverage {
  private readonly measured = new Map<string, TestCoverage>();

  /** @param cache a folder that keeps the measurements between runs */
  constructor(
    private readonly workspace: Workspace,
    private readonly graph: ImportGraph,
    private readonly cache: string,
  ) {
    mkdirSync(cache, { recursive: true });
  }

  /** @param test relative to dist/ */
  async of(test: string, env: Readonly<Record<string, string>>): Promise<TestCoverage> {
    const known = this.measured.get(test) ?? (await this.load(test, env));
    this.measured.set(test, known);
    return known;
  }

  private async load(test: string, env: Readonly<Record<string, string>>): Promise<TestCoverage> {
    const file = join(this.cache, `${this.keyOf(test)}.json`);
    if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as TestCoverage;
    const coverage = await this.measure(test, env);
    if (coverage.passed) writeFileSync(file, JSON.stringify(coverage));
    return coverage;
  }

  private async measure(test: string, env: Readonly<Record<string, string>>): Promise<TestCoverage> {
    const folder = mkdtempSync(join(tmpdir(), 'kaimai-coverage-'));
    try {
      const startMs = performance.now();
      const run = await this.workspace.test([test], { ...env, NODE_V8_COVERAGE: folder });
      const durationMs = performance.now() - startMs;
      return { passed: run.outcome === 'passed', durationMs, files: this.filesOf(folder) };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  private filesOf(folder: string): Record<string, readonly Range[]> {
    const files = new Map<string, Range[]>();
    for (const name of readdirSync(folder)) {
      for (const { url, functions } of reportIn(join(folder, name)).result) {
        if (!url.startsWith('file:')) continue;
        const file = relative(this.workspace.dist, fileURLToPath(url));
        if (!/^(internal|cmd)\//.test(file)) continue;
        files.set(file, [...(files.get(file) ?? []), ...executedRanges(functions.flatMap((f) => f.ranges))]);
      }
    }
    return Object.fromEntries([...files].map(([file, ranges]) => [file, merged(ranges)]));
  }

  private keyOf(test: string): string {
    const hash = createHash('sha256');
    for (const file of [...this.graph.reachedFrom(test)].sort()) {
      const path = join(this.workspace.dist, file);
      // What looks like an import may be text.
      if (existsSync(path)) hash.update(`${file}\0`).update(readFileSync(path));
    }
    return hash.digest('hex').slice(0, 32);
  }
}

/** Whether a test runs the code at one of these places. */
export function covers({ files }: TestCoverage, places: readonly Place[]): boolean {
  return places.some(({ file, offset }) => files[file]?.some(([start, end]) => start <= offset && offset < end));
}

/** A process that was killed may leave half a report. */
function reportIn(file: string): V8Report {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as V8Report;
  } catch {
    return { result: [] };
  }
}

/** Ranges are nested, and the innermost one says whether a place ran. */
export function executedRanges(ranges: readonly V8Range[]): Range[] {
  const inOrder = [...ranges].sort((a, b) => a.startOffset - b.startOffset || b.endOffset - a.endOffset);
  const executed: Range[] = [];
  const open: V8Range[] = [];
  let at = 0;
  const goTo = (offset: number) => {
    if ((open.at(-1)?.count ?? 0) > 0 && offset > at) executed.push([at, offset]);
    at = Math.max(at, offset);
  };
  const closeUpTo = (offset: number) => {
    for (let last = open.at(-1); last !== undefined && last.endOffset <= offset; last = open.at(-1)) {
      goTo(last.endOffset);
      open.pop();
    }
  };
  for (const range of inOrder) {
    closeUpTo(range.startOffset);
    goTo(range.startOffset);
    open.push(range);
  }
  closeUpTo(Number.POSITIVE_INFINITY);
  return merged(executed);
}

function merged(ranges: readonly Range[]): Range[] {
  const all: [number, number][] = [];
  for (const [start, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = all.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else all.push([start, end]);
  }
  return all;
}
