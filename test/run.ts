/**
 * Runs tests in one mocha process, so that the servers start once:
 *
 *     node dist/test/run.js [--grep PATTERN] [--jobs N] [PART…]
 *
 * Without arguments: every *.test.js under dist/ but those of test/cluster, which `make test-cluster` runs: their rounds
 * of faults depend on elections, which take their time on a busy machine. Each PART selects the files whose path contains it; PATTERN, a regular
 * expression, selects tests by their full name. The last line is always `N passed, N failed`, even when a test file
 * cannot be loaded or something keeps the process alive after the last test. The options are those of .mocharc.json, so
 * that mocha's own command line and editors behave the same.
 *
 * With `--jobs N`, N such processes with servers of their own share the files. One process leaves half of two cores idle,
 * because tests wait for servers, deadlines and restarts.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { url as inspectorUrl } from 'node:inspector';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import Mocha from 'mocha';
import { projectRoot } from '../internal/local/project.js';

/** How long the process may take to exit after the last test. */
const EXIT_TIMEOUT_MS = 15_000;

const SEPARATE = join('test', 'cluster');

let passed = 0;
let failed = 0;
process.on('exit', (code) => {
  // An error outside of tests.
  if (code !== 0 && failed === 0) failed = 1;
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
});

/** Mocha's spec report, without its own closing figures. */
class Reporter extends Mocha.reporters.Spec {
  override epilogue(): void {
    const { pending, duration = 0 } = this.stats;
    console.log(`\n${(duration / 1000).toFixed(1)} s${pending > 0 ? `, ${pending} skipped` : ''}`);
    if (this.failures.length > 0) Mocha.reporters.Base.list(this.failures);
  }
}

function testFiles(parts: readonly string[]): string[] {
  const dist = join(projectRoot, 'dist');
  const files = ['cmd', 'internal', 'test'].flatMap((folder) =>
    readdirSync(join(dist, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(dist, folder, file)),
  );
  const tests = files.filter((file) => file.endsWith('.test.js')).sort();
  if (parts.length === 0) return tests.filter((file) => !relative(dist, file).startsWith(SEPARATE));
  return tests.filter((file) => parts.some((part) => relative(dist, file).includes(part)));
}

/**
 * Runs the files in `jobs` processes and prints what each writes when it ends. They write to files: what a process has not
 * yet written to a pipe is lost when it exits.
 */
async function runJobs(jobs: number, args: readonly string[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'kaimai-test-jobs-'));
  const runs = Array.from({ length: jobs }, async (_, index) => {
    const program = [...process.execArgv, ...process.argv.slice(1, 2), ...args, '--shard', `${index}/${jobs}`];
    const file = join(folder, String(index));
    const output = openSync(file, 'w');
    await once(spawn(process.execPath, program, { stdio: ['ignore', output, output] }), 'close');
    closeSync(output);
    const text = readFileSync(file, 'utf8');
    process.stdout.write(text);
    const figures = /(\d+) passed, (\d+) failed\s*$/.exec(text);
    passed += Number(figures?.[1] ?? 0);
    failed += Number(figures?.[2] ?? 1);
  });
  await Promise.all(runs);
  rmSync(folder, { recursive: true });
}

async function runHere(files: readonly string[], grep: string | undefined): Promise<void> {
  const options = JSON.parse(readFileSync(join(projectRoot, '.mocharc.json'), 'utf8')) as Mocha.MochaOptions;
  const mocha = new Mocha({
    ...options,
    // A test that waits at a breakpoint must not time out.
    ...(inspectorUrl() !== undefined && { timeout: 0 }),
    ...(grep !== undefined && { grep }),
    reporter: Reporter,
  });
  for (const file of files) mocha.addFile(file);
  await mocha.loadFilesAsync();
  const runner = mocha.run(() => {
    passed = runner.stats?.passes ?? 0;
    failed = runner.stats?.failures ?? 0;
    if (grep !== undefined && runner.stats?.tests === 0) {
      console.error(`no test name matches ${grep}`);
      failed += 1;
    }
    const timer = setTimeout(() => {
      console.error(`still open after the last test: ${process.getActiveResourcesInfo().join(', ')}`);
      failed += 1;
      process.exit(1);
    }, EXIT_TIMEOUT_MS);
    timer.unref();
    // Last of the exit listeners: seen on Node 20, Node may wait for ever for requests of handles that were closed at the end.
    process.on('exit', () => process.exit());
  });
}

const { values, positionals } = parseArgs({
  options: {
    grep: { type: 'string', short: 'g' },
    jobs: { type: 'string', default: '1' },
    // Given by --jobs to the processes it starts: `I/N` is every Nth file from the Ith.
    shard: { type: 'string', default: '0/1' },
  },
  allowPositionals: true,
});
const [shard = 0, shards = 1] = values.shard.split('/').map(Number);
const files = testFiles(positionals).filter((_, index) => index % shards === shard);
if (Number(values.jobs) > 1) {
  await runJobs(Number(values.jobs), [...(values.grep === undefined ? [] : ['--grep', values.grep]), ...positionals]);
} else {
  if (files.length === 0) throw new Error(`no test file has ${positionals.join(' or ')} in its path`);
  await runHere(files, values.grep);
}
