import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { projectRoot } from '../../internal/local/project.js';

/** How a run of tests ended; `failed` names the first test that failed. */
export type TestRun =
  | { readonly outcome: 'passed' }
  | { readonly outcome: 'failed'; readonly test: string; readonly file: string | undefined }
  | { readonly outcome: 'timed out' };

/** Far more than any test file takes. */
const TIMEOUT_MS = 600_000;
/** Written there by a mutant, so they must not be the project's own. */
const COPIED = ['dist', 'migrations', 'package.json'];
const LEFT_OUT = ['.git', '.run', 'coverage', 'node_modules', ...COPIED];

/** A copy of the compiled project in which one file at a time is mutated. */
export class Workspace {
  readonly dist: string;

  constructor(private readonly root: string) {
    this.dist = join(root, 'dist');
    rmSync(root, { recursive: true, force: true });
    mkdirSync(root, { recursive: true });
    for (const name of COPIED) execFileSync('cp', ['-a', join(projectRoot, name), root]);
    for (const name of readdirSync(projectRoot)) {
      if (!LEFT_OUT.includes(name)) symlinkSync(join(projectRoot, name), join(root, name));
    }
    symlinkSync(join(projectRoot, 'node_modules'), join(root, 'node_modules'));
  }

  /** Runs `work` while `source` reads `text`. @param source relative to the project */
  async with<T>(source: string, text: string, work: () => Promise<T>): Promise<T> {
    const target = this.targetOf(source);
    const original = readFileSync(target);
    writeFileSync(target, source.endsWith('.ts') ? compiled(text) : text);
    try {
      return await work();
    } finally {
      writeFileSync(target, original);
    }
  }

  /** Runs test files in one process, up to the first failure. @param files relative to dist/ */
  async test(
    files: readonly string[],
    env: Readonly<Record<string, string>>,
    timeoutMs = TIMEOUT_MS,
  ): Promise<TestRun> {
    const report = join(this.root, 'report.json');
    if (existsSync(report)) unlinkSync(report);
    const mocha = join(projectRoot, 'node_modules/mocha/bin/mocha.js');
    const options = ['--no-config', '--exit', '--bail', '--timeout', '120000'];
    const reporter = ['--reporter', 'json', '--reporter-option', `output=${report}`];
    const args = [mocha, ...options, ...reporter, ...files.map((file) => join(this.dist, file))];
    const child = spawn(process.execPath, args, { cwd: this.root, env: { ...process.env, ...env }, stdio: 'ignore' });
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
    clearTimeout(timer);
    if (timedOut) return { outcome: 'timed out' };
    if (code === 0) return { outcome: 'passed' };
    const failure = firstFailure(report);
    return { outcome: 'failed', test: failure?.fullTitle ?? 'the tests cannot be loaded', file: failure?.file };
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }

  private targetOf(source: string): string {
    if (source.endsWith('.ts')) return join(this.dist, source.replace(/\.ts$/, '.js'));
    return join(source.endsWith('.lua') ? this.dist : this.root, source);
  }
}

/** Types are not checked: what tsc would refuse, the tests must refuse too. */
function compiled(text: string): string {
  const { options } = ts.convertCompilerOptionsFromJson(
    ts.readConfigFile(join(projectRoot, 'tsconfig.json'), ts.sys.readFile).config.compilerOptions,
    projectRoot,
  );
  return ts.transpileModule(text, { compilerOptions: { ...options, module: ts.ModuleKind.ESNext, sourceMap: false } })
    .outputText;
}

function firstFailure(report: string): { fullTitle: string; file?: string } | undefined {
  if (!existsSync(report)) return undefined;
  const { failures } = JSON.parse(readFileSync(report, 'utf8')) as { failures: { fullTitle: string; file?: string }[] };
  return failures[0];
}
