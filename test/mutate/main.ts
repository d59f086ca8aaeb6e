/**
 * `make mutate`: plants small bugs in a copy of the compiled project, one at a time, and reports those that no test
 * notices. The sample follows from the seed and is spread over all folders. docs/mutation.md has the results.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { projectRoot } from '../../internal/local/project.js';
import { freePort } from '../../internal/local/servers/ports.js';
import type { RunningServer, ServerName } from '../../internal/local/servers/server.js';
import { chooseSources, installMissing, serverKinds, startServer } from '../../internal/local/servers/servers.js';
import { Random } from '../simulation/random.js';
import { Coverage, covers } from './coverage.js';
import { type Mutant, mutantsOf, mutate } from './mutants.js';
import { Places } from './places.js';
import { ImportGraph, type SelectedTest } from './selection.js';
import { Workspace } from './workspace.js';

const USAGE = `usage: make mutate [M="--count 60 --seed 1 --skip 0 --only PATH --tests 6 --no-servers --list"]`;
const SOURCES = ['cmd', 'internal', 'migrations'];
/** Programs and declarations: their behaviour is in what they call, or in nothing that runs. */
const LEFT_OUT = /\.test\.ts$|\/testdata\/|^cmd\/|^internal\/local\/|-module\.ts$/;

/** A mutant that makes the tests take longer than this is killed. The machine may be busy. */
const timeoutMs = (durationMs: number) => 30_000 + 10 * durationMs;

interface Options {
  readonly count: number;
  /** Mutants of the sample to leave out, from the first: a long run can be made in portions. */
  readonly skip: number;
  readonly seed: number;
  readonly only: readonly string[];
  /** Tests with servers to run for a mutant at most, of those that cover it, the nearest first. */
  readonly serverTests: number;
}

/** One mutant of each folder in turn, until there are enough. */
function sample(mutants: readonly Mutant[], { count, skip, seed }: Options): Mutant[] {
  const random = new Random(seed);
  const folders = new Map<string, Mutant[]>();
  for (const mutant of mutants) {
    const folder = dirname(mutant.file);
    folders.set(folder, [...(folders.get(folder) ?? []), mutant]);
  }
  const picked: Mutant[] = [];
  while (picked.length < skip + count && folders.size > 0) {
    for (const [folder, left] of folders) {
      if (picked.length === skip + count) break;
      picked.push(...left.splice(random.int(left.length), 1));
      if (left.length === 0) folders.delete(folder);
    }
  }
  return picked.slice(skip);
}

function allMutants(only: readonly string[]): readonly Mutant[] {
  return SOURCES.flatMap((folder) =>
    readdirSync(join(projectRoot, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file)),
  )
    .filter((file) => !LEFT_OUT.test(file) && (only.length === 0 || only.some((part) => file.includes(part))))
    .sort()
    .flatMap((file) =>
      /\.(ts|lua|sql)$/.test(file) ? mutantsOf(file, readFileSync(join(projectRoot, file), 'utf8')) : [],
    );
}

/** Servers that all test runs share, started when the first test needs them. */
class Servers {
  private readonly root = mkdtempSync(join(tmpdir(), 'kaimai-mutate-'));
  private readonly running: RunningServer[] = [];
  private urls: Promise<Readonly<Record<string, string>>> | undefined;

  env(): Promise<Readonly<Record<string, string>>> {
    this.urls ??= this.start();
    return this.urls;
  }

  async stop(): Promise<void> {
    for (const server of this.running.reverse()) await server.stop();
    rmSync(this.root, { recursive: true, force: true });
  }

  private async start(): Promise<Readonly<Record<string, string>>> {
    const names: ServerName[] = ['postgres', 'redis', 'rabbitmq'];
    const { signal } = new AbortController();
    const sources = await chooseSources(names);
    await installMissing(sources, signal, () => {});
    const urls: Record<string, string> = {};
    for (const name of names) {
      const source = sources.get(name);
      if (!source) throw new Error(`no source for ${name}`);
      const server = await startServer(name, source, { root: this.root, port: freePort, signal, removeData: true });
      this.running.push(server);
      urls[serverKinds[name].urlVariable] = server.url;
    }
    return urls;
  }
}

interface Verdict {
  readonly killed: boolean;
  readonly by: string;
}

class Examination {
  private readonly graph: ImportGraph;
  private readonly coverage: Coverage;
  private readonly places: Places;
  /** By source and test files: whether these pass without a mutant. */
  private readonly sound = new Map<string, boolean>();
  private readonly broken = new Set<string>();
  /** How many tests without servers ran for a mutant. */
  private readonly quick = new Map<Mutant, number>();

  constructor(
    private readonly workspace: Workspace,
    private readonly servers: Servers | undefined,
    private readonly options: Options,
  ) {
    this.graph = new ImportGraph(workspace.dist);
    this.coverage = new Coverage(workspace, this.graph, join(projectRoot, '.run/mutate-coverage'));
    this.places = new Places(projectRoot, workspace.dist);
  }

  /** Runs the covering tests without servers, all together. @returns undefined if all of them pass */
  async withoutServers(mutant: Mutant): Promise<Verdict | undefined> {
    const covering: SelectedTest[] = [];
    for (const test of this.graph.testsOf(mutant.file)) {
      if (!test.needsServers && (await this.covers(test, mutant))) covering.push(test);
    }
    this.quick.set(mutant, covering.length);
    return covering.length > 0 ? this.run(mutant, covering) : undefined;
  }

  /** Runs the nearest covering tests with servers, one by one, after those without. */
  async withServers(mutant: Mutant): Promise<Verdict> {
    const selected = this.servers ? this.graph.testsOf(mutant.file).filter((t) => t.needsServers) : [];
    let slow = 0;
    for (const test of selected) {
      if (slow === this.options.serverTests) break;
      if (!(await this.covers(test, mutant))) continue;
      slow++;
      const found = await this.run(mutant, [test]);
      if (found) return found;
    }
    const quick = this.quick.get(mutant) ?? 0;
    if (quick + slow === 0) return { killed: false, by: 'no test runs the code' };
    return { killed: false, by: `${quick} tests without servers and ${slow} with servers pass` };
  }

  private async covers(test: SelectedTest, mutant: Mutant): Promise<boolean> {
    if (this.broken.has(test.file)) return false;
    const places = this.places.affectedBy(mutant.file, mutant.start);
    const coverage = await this.coverage.of(test.file, await this.envOf([test]));
    if (!coverage.passed) this.leaveOut(test.file);
    return coverage.passed && (places === undefined || covers(coverage, places));
  }

  /** @returns undefined if all of them pass */
  private async run(mutant: Mutant, selected: readonly SelectedTest[]): Promise<Verdict | undefined> {
    const tests = selected.filter((t) => !this.broken.has(t.file));
    if (tests.length === 0) return undefined;
    const env = await this.envOf(tests);
    const files = tests.map((t) => t.file);
    const text = mutate(readFileSync(join(projectRoot, mutant.file), 'utf8'), mutant);
    let durationMs = 0;
    for (const file of files) durationMs += (await this.coverage.of(file, env)).durationMs;
    const limitMs = timeoutMs(durationMs);
    const run = await this.workspace.with(mutant.file, text, () => this.workspace.test(files, env, limitMs));
    if (run.outcome === 'passed') return undefined;
    const failed = run.outcome === 'failed' && run.file ? relative(this.workspace.dist, run.file) : undefined;
    // Without a file the tests could not be loaded, or did not end.
    const suspects = tests.filter((t) => failed === undefined || t.file === failed);
    if (await this.areSound(mutant.file, suspects)) {
      return { killed: true, by: run.outcome === 'failed' ? run.test : 'a timeout' };
    }
    // A test that fails without a mutant kills nothing.
    for (const { file } of suspects) this.leaveOut(file);
    return this.run(mutant, tests);
  }

  private leaveOut(test: string): void {
    console.log(`${test} fails without a mutant and is left out`);
    this.broken.add(test);
  }

  /** Whether tests pass with the same file compiled in the same way, but unchanged. */
  private async areSound(source: string, tests: readonly SelectedTest[]): Promise<boolean> {
    const files = tests.map((t) => t.file);
    const key = [source, ...files].join(' ');
    let sound = this.sound.get(key);
    if (sound === undefined) {
      const text = readFileSync(join(projectRoot, source), 'utf8');
      const env = await this.envOf(tests);
      const run = await this.workspace.with(source, text, () => this.workspace.test(files, env));
      sound = run.outcome === 'passed';
      this.sound.set(key, sound);
    }
    return sound;
  }

  private async envOf(tests: readonly SelectedTest[]): Promise<Readonly<Record<string, string>>> {
    return this.servers && tests.some((t) => t.needsServers) ? this.servers.env() : {};
  }
}

function described({ file, line, operator, before, after }: Mutant): string {
  const short = (text: string) => text.replace(/\s+/g, ' ').trim().slice(0, 70);
  return `${file}:${line}  ${operator}: ${short(before)} → ${short(after) || '(nothing)'}`;
}

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', multiple: true, default: [] },
    skip: { type: 'string', default: '0' },
    tests: { type: 'string', default: '6' },
    'no-servers': { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const options: Options = {
  count: Number(values.count),
  skip: Number(values.skip),
  seed: Number(values.seed),
  only: values.only,
  serverTests: Number(values.tests),
};
const numbers = [options.count, options.skip, options.seed, options.serverTests];
if (values.help || !numbers.every((n) => Number.isSafeInteger(n) && n >= 0)) {
  console.error(USAGE);
  process.exit(values.help ? 0 : 2);
}
const candidates = allMutants(options.only);
const chosen = sample(candidates, options);
console.log(`${chosen.length} of ${candidates.length} mutants, seed ${options.seed}`);
if (values.list) {
  for (const mutant of chosen) console.log(described(mutant));
} else {
  const workspace = new Workspace(join(projectRoot, '.run/mutate'));
  const servers = values['no-servers'] ? undefined : new Servers();
  const survivors: Mutant[] = [];
  let killed = 0;
  let interrupted = false;
  process.once('SIGINT', () => {
    interrupted = true;
    console.log('stopping after this mutant');
  });
  try {
    const examination = new Examination(workspace, servers, options);
    const print = (mutant: Mutant, verdict: Verdict) => {
      if (verdict.killed) killed++;
      else survivors.push(mutant);
      console.log(`${verdict.killed ? 'killed  ' : 'SURVIVED'} ${described(mutant)}\n         ${verdict.by}`);
    };
    // Tests with servers take a minute for a mutant, so they come after everything that is known without them.
    const left: Mutant[] = [];
    for (const mutant of chosen) {
      if (interrupted) break;
      const verdict = await examination.withoutServers(mutant);
      if (verdict) print(mutant, verdict);
      else left.push(mutant);
    }
    for (const mutant of left) {
      if (interrupted) break;
      print(mutant, await examination.withServers(mutant));
    }
  } finally {
    await servers?.stop();
    workspace.remove();
  }
  const examined = killed + survivors.length;
  console.log(`\n${killed} of ${examined} killed (${((100 * killed) / Math.max(1, examined)).toFixed(1)} %)`);
  if (examined < chosen.length) console.log(`${chosen.length - examined} were not examined to the end`);
  for (const mutant of survivors) console.log(`  ${described(mutant)}`);
}
