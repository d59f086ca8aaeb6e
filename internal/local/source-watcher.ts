import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ImportGraph } from './import-graph.js';
import type { ServiceName } from './services.js';

/**
 * Files other than TypeScript. They are polled, because fs.watch misses files that an editor replaces by renaming and
 * does not work on network mounts; 200 stats take about a millisecond.
 */
const POLL_MS = 200;
/** tsc notices a generated file within this time, and then it decides when to restart. */
const GENERATED_CODE_SETTLES_MS = 600;
const EVERY_SERVICE = ['product', 'resource'] as const satisfies ServiceName[];

export interface SourceWatcherOptions {
  root: string;
  restart(services: readonly ServiceName[], why: string): void;
  migrate(): Promise<void>;
  report(message: string): void;
}

type FileKind = 'asset' | 'proto' | 'config' | 'migration';

/**
 * Compiles what is saved and says which services have to restart. TypeScript is left to `tsc --watch`, protos and
 * the files that programs read beside their code to `make assets`. Nothing restarts while there is an error.
 *
 * The watching compiler is TypeScript 6: TypeScript 7, which `make build` runs, took up to 4 s to notice a saved file.
 * Each has a build info file of its own, because neither reads the other's.
 */
export class SourceWatcher {
  private ready = false;
  private compiling = false;
  private broken = false;
  private generating = false;
  private readonly changed = new Map<ServiceName, Set<string>>();
  private readonly graph: ImportGraph;

  constructor(private readonly options: SourceWatcherOptions) {
    this.graph = new ImportGraph(join(options.root, 'dist'));
  }

  /** Runs until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const compiler = this.startCompiler();
    try {
      await this.pollFiles(signal);
    } finally {
      compiler.kill();
    }
  }

  private startCompiler(): ChildProcess {
    const { root, report } = this.options;
    const args = [
      join(root, 'node_modules/typescript/bin/tsc'),
      '-p',
      '.',
      '--watch',
      '--preserveWatchOutput',
      '--listEmittedFiles',
      '--noEmitOnError',
    ];
    args.push('--tsBuildInfoFile', 'dist/.tsbuildinfo-watch');
    args.push('--pretty', String(process.stdout.isTTY === true));
    const compiler = spawn(process.execPath, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let emitted: string[] = [];
    let diagnostics: string[] = [];
    createInterface({ input: compiler.stdout }).on('line', (line) => {
      const errors = /Found (\d+) errors?\. Watching for file changes/.exec(line)?.[1];
      const file = /^TSFILE: (.*)/.exec(line)?.[1];
      if (/Starting (incremental )?compilation/.test(line)) {
        this.compiling = true;
        emitted = [];
        diagnostics = [];
      } else if (file !== undefined) {
        emitted.push(relative(join(root, 'dist'), file));
      } else if (errors !== undefined) {
        this.compiling = false;
        this.broken = errors !== '0';
        if (!this.ready) report('Watching for changes.');
        this.ready = true;
        if (this.broken)
          report(
            `${diagnostics.join('\n').trim()}\n${errors} ${errors === '1' ? 'error' : 'errors'}. The old code keeps running.`,
          );
        this.noteCompiled(emitted);
        this.restartChanged();
      } else {
        diagnostics.push(line);
      }
    });
    compiler.once('error', (error) => report(`TypeScript is not watched: ${error.message}`));
    return compiler;
  }

  private async pollFiles(signal: AbortSignal): Promise<void> {
    let known = this.stamps();
    while (!signal.aborted) {
      await sleep(POLL_MS, undefined, { signal }).catch(() => {});
      const current = this.stamps();
      const saved = [...current].filter(([file, { stamp }]) => known.get(file)?.stamp !== stamp);
      const removed = [...known].filter(([file]) => !current.has(file));
      known = current;
      const changes = new Map([...saved, ...removed].map(([file, { kind }]) => [file, kind]));
      if (changes.size > 0 && !signal.aborted) await this.apply(changes, signal);
    }
  }

  private async apply(changes: ReadonlyMap<string, FileKind>, signal: AbortSignal): Promise<void> {
    const filesOf = (...kinds: FileKind[]) =>
      [...changes].filter(([, kind]) => kinds.includes(kind)).map(([file]) => file);
    try {
      if (filesOf('migration').length > 0) await this.options.migrate();
      if (filesOf('asset', 'proto').length > 0) await this.makeAssets(filesOf('proto').length > 0, signal);
    } catch (error) {
      if (signal.aborted) return;
      const { stderr, message } = error as Error & { stderr?: string };
      this.options.report(`${stderr?.trim() || message}\nThe old code keeps running.`);
      return;
    }
    for (const file of filesOf('asset', 'proto')) this.note(EVERY_SERVICE, file);
    for (const file of filesOf('config'))
      this.note(
        EVERY_SERVICE.filter((name) => file.includes(name)),
        file,
      );
    this.restartChanged();
  }

  private async makeAssets(generatesCode: boolean, signal: AbortSignal): Promise<void> {
    this.generating = true;
    try {
      const args = ['--no-print-directory', '--silent', 'assets'];
      await promisify(execFile)('make', args, { cwd: this.options.root, signal });
      if (generatesCode) await sleep(GENERATED_CODE_SETTLES_MS, undefined, { signal });
    } finally {
      this.generating = false;
    }
  }

  private noteCompiled(outputs: readonly string[]): void {
    for (const name of EVERY_SERVICE) {
      const loaded = this.graph.filesOf(`cmd/${name}/main.js`);
      for (const output of outputs) if (loaded.has(output)) this.note([name], output.replace(/\.js$/, '.ts'));
    }
  }

  private note(services: readonly ServiceName[], file: string): void {
    for (const name of services) this.changed.set(name, (this.changed.get(name) ?? new Set()).add(file));
  }

  private restartChanged(): void {
    if (this.compiling || this.broken || this.generating || this.changed.size === 0) return;
    const files = [...new Set([...this.changed.values()].flatMap((set) => [...set]))];
    const others = files.length > 1 ? ` and ${files.length - 1} more` : '';
    this.options.restart([...this.changed.keys()], `${files[0]}${others}`);
    this.changed.clear();
  }

  /** Every polled file with a stamp that changes when it is saved. */
  private stamps(): Map<string, { kind: FileKind; stamp: string }> {
    const stamps = new Map<string, { kind: FileKind; stamp: string }>();
    for (const folder of ['api', 'configs', 'internal', 'migrations', 'third_party']) {
      for (const entry of list(join(this.options.root, folder))) {
        const file = join(folder, entry);
        const kind = kindOf(file);
        const found = kind && statSync(join(this.options.root, file), { throwIfNoEntry: false });
        if (kind && found) stamps.set(file, { kind, stamp: `${found.mtimeMs} ${found.size} ${found.ino}` });
      }
    }
    return stamps;
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: 'utf8' });
  } catch {
    return [];
  }
}

function kindOf(file: string): FileKind | undefined {
  if (file.endsWith('.proto')) return 'proto';
  if (/^internal\/.*\.(lua|html)$/.test(file)) return 'asset';
  if (/^configs\/.*\.ya?ml$/.test(file)) return 'config';
  if (/^migrations\/.*\.sql$/.test(file)) return 'migration';
  return undefined;
}
