/**
 * `make test`: every *.test.js under dist/ in one mocha run, so that the servers start once. Arguments narrow it down:
 * each is a part of a path. The last line is always `N passed, N failed`, also when a test file cannot be loaded, or
 * something keeps the process alive after the last test.
 */
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import Mocha from 'mocha';
import { projectRoot } from '../internal/local/project.js';

const TIMEOUT_MS = 30_000;
/** How long the process may take to end by itself once all is done. */
const ENDING_MS = 15_000;

let passed = 0;
let failed = 0;
process.on('exit', (code) => {
  // Left in the middle of the run.
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

function testFiles(wanted: readonly string[]): string[] {
  const dist = join(projectRoot, 'dist');
  const files = ['cmd', 'internal', 'test'].flatMap((folder) =>
    readdirSync(join(dist, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(dist, folder, file)),
  );
  const tests = files.filter((file) => file.endsWith('.test.js')).sort();
  if (wanted.length === 0) return tests;
  return tests.filter((file) => wanted.some((part) => relative(dist, file).includes(part)));
}

const files = testFiles(process.argv.slice(2));
if (files.length === 0) throw new Error('no test file found');
const mocha = new Mocha({ timeout: TIMEOUT_MS, reporter: Reporter });
for (const file of files) mocha.addFile(file);
await mocha.loadFilesAsync();
const runner = mocha.run(() => {
  passed = runner.stats?.passes ?? 0;
  failed = runner.stats?.failures ?? 0;
  const ending = setTimeout(() => {
    console.error(`after the last test these are still open: ${process.getActiveResourcesInfo().join(', ')}`);
    failed += 1;
    process.exit(1);
  }, ENDING_MS);
  ending.unref();
});
