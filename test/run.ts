/**
 * Runs tests in one mocha process, so that the servers start once:
 *
 *     node dist/test/run.js [--grep PATTERN] [--jobs N] [PART…]
 *
 * Without arguments: every *.test.js under dist/ but those that have a target of their own (see SEPARATE), and a line that
 * says so. Each PART selects the files whose path contains it; PATTERN, a regular
 * expression, selects tests by their full name. The last line is always `N passed, N failed`, even when a test file
 * cannot be loaded or something keeps the process alive after the last test. The options are those of .mocharc.json, so
 * that mocha's own command line and editors behave the same.
 *
 * With `--jobs N`, N such processes with servers of their own share the files. One process leaves half of two cores idle,
 * because tests wait for servers, deadlines and restarts.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { url as inspectorUrl } from 'node:inspector';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import Mocha from 'mocha';
import { errorText } from '../internal/kratos/errors/error-text.js';
import { projectRoot } from '../internal/local/project.js';
import { takePortsOfPart } from '../internal/local/servers/ports.js';
import type { ServerName } from '../internal/local/servers/server.js';
import { chooseSources, installMissing, serverKinds } from '../internal/local/servers/servers.js';

/** How long the process may take to exit after the last test. */
const EXIT_TIMEOUT_MS = 15_000;

/** Folders that the make target of their name runs. */
const SEPARATE = {
  // Their rounds of faults depend on elections, which take their time on a busy machine.
  'test-cluster': join('test', 'cluster'),
  // They need programs that take ten minutes to build.
  'test-kubernetes': join('test', 'kubernetes'),
};

let passed = 0;
/** What failed: the title of a test or a hook, and the first line of its error. */
const failures: string[] = [];
let reportFile: string | undefined;

function fail(title: string, reason: string): void {
  failures.push(`${title}: ${reason.split('\n', 1)[0]}`);
}

// Also runs when an error that is not caught ends the process.
process.on('exit', (code) => {
  if (code !== 0 && failures.length === 0) fail('outside of tests', `exit code ${code}`);
  if (reportFile !== undefined) writeFileSync(reportFile, JSON.stringify({ passed, failures } satisfies Report));
  // Once more at the end, where a log that was cut still has it.
  else if (failures.length > 0) console.log(`Failed:\n  ${failures.join('\n  ')}`);
  console.log(`${passed} passed, ${failures.length} failed`);
  process.exitCode = failures.length > 0 ? 1 : 0;
});

interface Report {
  passed: number;
  failures: string[];
}

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
  if (parts.length === 0) {
    const separate = Object.values(SEPARATE).map((folder) => join(folder, '/'));
    return tests.filter((file) => !separate.some((folder) => relative(dist, file).startsWith(folder)));
  }
  return tests.filter((file) => parts.some((part) => relative(dist, file).includes(part)));
}

/**
 * Installs the servers that are missing, before processes run side by side: while one of them installs a package, the
 * other finds its programs unpacked but not yet configured, and cannot start them.
 */
async function installServers(): Promise<void> {
  try {
    const sources = await chooseSources(Object.keys(serverKinds) as ServerName[]);
    const installed = [...sources].filter(([, { type }]) => type === 'apt').map(([name]) => name);
    if (installed.length > 0) console.log(`installing ${installed.join(', ')} by apt …`);
    await installMissing(sources, new AbortController().signal, () => {});
  } catch (err) {
    // The suites that need what is missing fail or are skipped.
    console.error(errorText(err));
  }
}

/**
 * Runs the files in `jobs` processes and prints what each writes when it ends. They write to files: what a process has not
 * yet written to a pipe is lost when it exits.
 */
async function runJobs(jobs: number, args: readonly string[]): Promise<void> {
  await installServers();
  const folder = mkdtempSync(join(tmpdir(), 'kaimai-test-jobs-'));
  const runs = Array.from({ length: jobs }, async (_, index) => {
    const file = join(folder, String(index));
    const report = `${file}.json`;
    const own = ['--shard', `${index}/${jobs}`, '--report', report];
    const program = [...process.execArgv, ...process.argv.slice(1, 2), ...args, ...own];
    const output = openSync(file, 'w');
    await once(spawn(process.execPath, program, { stdio: ['ignore', output, output] }), 'close');
    closeSync(output);
    process.stdout.write(readFileSync(file, 'utf8'));
    try {
      const result = JSON.parse(readFileSync(report, 'utf8')) as Report;
      passed += result.passed;
      failures.push(...result.failures);
    } catch {
      fail(`tests of process ${index}`, 'it ended without a report');
    }
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
    // A server that stops now ends the connections that a failed suite left open. Mocha would throw the error again.
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (err) => {
      console.error(err);
      fail('after the last test', String(err));
    });
    if (grep !== undefined && runner.stats?.tests === 0) fail('selection', `no test name matches ${grep}`);
    const timer = setTimeout(() => {
      fail('after the last test', `still open: ${process.getActiveResourcesInfo().join(', ')}`);
      process.exit(1);
    }, EXIT_TIMEOUT_MS);
    timer.unref();
    // Last of the exit listeners: seen on Node 20, Node may wait for ever for requests of handles that were closed at the end.
    process.on('exit', () => process.exit());
  });
  // Counted as they come, so that a process that is ended early has them too.
  runner.on('pass', () => {
    passed += 1;
  });
  runner.on('fail', (test, err: unknown) => fail(test.fullTitle(), err instanceof Error ? err.message : String(err)));
}

const { values, positionals } = parseArgs({
  options: {
    grep: { type: 'string', short: 'g' },
    jobs: { type: 'string', default: '1' },
    // Given by --jobs to the processes it starts: `I/N` is every Nth file from the Ith.
    shard: { type: 'string', default: '0/1' },
    report: { type: 'string' },
  },
  allowPositionals: true,
});
reportFile = values.report;
const [shard = 0, shards = 1] = values.shard.split('/').map(Number);
if (positionals.length === 0 && shards === 1) {
  for (const [target, folder] of Object.entries(SEPARATE)) console.log(`skipped: ${folder}: run make ${target}`);
}
const files = testFiles(positionals).filter((_, index) => index % shards === shard);
if (Number(values.jobs) > 1) {
  await runJobs(Number(values.jobs), [...(values.grep === undefined ? [] : ['--grep', values.grep]), ...positionals]);
} else {
  takePortsOfPart(shard, shards);
  if (files.length === 0) throw new Error(`no test file has ${positionals.join(' or ')} in its path`);
  await runHere(files, values.grep);
}
