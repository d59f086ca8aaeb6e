import cluster from 'node:cluster';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { ConfigError } from '../config/config-error.js';
import type { Logger } from '../log/logger.js';
import { type LogOptions, PinoLogger } from '../log/pino-logger.js';
import { startTracing, type TracingOptions } from '../tracing/start-tracing.js';
import { type App, IMPATIENT, STOP_SIGNALS } from './app.js';
import { Resources } from './resources.js';
import { Worker } from './worker.js';
import { type PrimaryOptions, runPrimary, STOP_MESSAGE, WORKER_INDEX } from './workers.js';

/** What `runProcess` uses of a `ReloadableConfig`. */
interface ProcessConfig {
  readonly current: unknown;
  onChange(listener: () => void): void;
}

/** What exists before the object graph of a process is built. */
export interface ProcessContext<C extends ProcessConfig> {
  /** The configuration as it was at the start. */
  readonly config: C['current'];
  /** The configuration as its files change. */
  readonly live: C;
  readonly logger: Logger;
  readonly worker: Worker;
  /** Closed by the app at its end, or by `runProcess` if no app could be built. */
  readonly resources: Resources;
}

/** The settings that `runProcess` itself needs. */
export interface ProcessSettings extends Omit<PrimaryOptions, 'name' | 'workers'> {
  /** Worker processes; `auto` is one for each core. */
  readonly workers: number | 'auto';
  /** Name of this replica, the same after a restart. Default: the host name. */
  readonly replica?: string | undefined;
  readonly log: LogOptions;
  /** Absent: no traces. */
  readonly tracing?: TracingOptions | undefined;
}

export interface ProcessSpec<C extends ProcessConfig> {
  /** Such as `product`: for the log, for the names of consumers, and for the default path `configs/<name>.yaml`. */
  readonly name: string;
  readonly argv: readonly string[];
  /** @throws ConfigError */
  readonly openConfig: (path: string) => C;
  readonly settingsOf: (config: C['current'], name: string) => ProcessSettings;
  /** Builds the app. It imports the modules only when it is called, since tracing has to start before they load. */
  readonly wire: (context: ProcessContext<C>) => Promise<App>;
}

const USAGE_EXIT_CODE = 2;

/**
 * Runs a process until it ends. It takes one argument, `-conf <file or directory>`.
 * @returns its exit code
 */
export async function runProcess<C extends ProcessConfig>(spec: ProcessSpec<C>): Promise<number> {
  try {
    return await run(spec);
  } finally {
    // An open channel to the primary keeps a worker alive.
    if (cluster.isWorker && process.connected) process.disconnect?.();
  }
}

async function run<C extends ProcessConfig>(spec: ProcessSpec<C>): Promise<number> {
  const path = configPath(spec);
  if (path === undefined) {
    process.stderr.write(`usage: ${spec.name} [-conf <YAML file or directory>]\n`);
    return USAGE_EXIT_CODE;
  }
  const early = new EarlyStop();
  let live: C;
  try {
    live = spec.openConfig(path);
  } catch (err) {
    if (!(err instanceof ConfigError)) throw err;
    process.stderr.write(`${err.message}\n`);
    return 1;
  }
  const config = live.current;
  const settings = spec.settingsOf(config, spec.name);
  const count = settings.workers === 'auto' ? availableParallelism() : settings.workers;
  const index = Number(process.env[WORKER_INDEX] ?? 0);
  const fields = { app: spec.name, pid: process.pid };
  if (count > 1 && cluster.isPrimary) {
    const options = { ...settings, name: spec.name, workers: count };
    const running = runPrimary(options, PinoLogger.create(settings.log, fields));
    early.release();
    return running;
  }
  const logger = PinoLogger.create(settings.log, count > 1 ? { ...fields, worker: index } : fields);
  live.onChange(() => {
    logger.level = spec.settingsOf(live.current, spec.name).log.level;
  });
  const worker = new Worker(spec.name, index, count, settings.replica);
  const stopTracing = settings.tracing && (await startTracing(settings.tracing));
  const resources = new Resources();
  let app: App;
  try {
    app = await spec.wire({ config, live, logger, worker, resources });
  } catch (err) {
    if (err instanceof ConfigError) process.stderr.write(`${err.message}\n`);
    else logger.error('wiring failed', { err });
    // Open resources would keep the process alive, and its supervisor waiting.
    await resources.close();
    return 1;
  }
  if (cluster.isWorker) obeyPrimary(app);
  if (early.requested) app.stop();
  const running = app.run();
  early.release();
  const code = await running;
  await stopTracing?.();
  return code;
}

/**
 * Notices a stop that comes while the object graph is built. A signal would otherwise end the process with its connections
 * open, or be lost: the kernel delivers to PID 1 of a container only signals that have a listener.
 */
class EarlyStop {
  requested = false;
  private readonly onSignal = () => {
    if (this.requested) process.exit(IMPATIENT);
    this.requested = true;
  };
  private readonly onMessage = (message: { type?: string }) => {
    if (message.type === STOP_MESSAGE.type) this.requested = true;
  };

  constructor() {
    for (const signal of STOP_SIGNALS) process.on(signal, this.onSignal);
    if (cluster.isWorker) process.on('message', this.onMessage);
  }

  /**
   * Call when the app listens. Without any listener in between, Node would drop a signal that came while the event loop was
   * busy: it tells listeners of a signal at its next turn.
   */
  release(): void {
    for (const signal of STOP_SIGNALS) process.off(signal, this.onSignal);
    process.off('message', this.onMessage);
  }
}

/** Takes Kratos' `-conf` as well as the usual `--conf`. */
function configPath(spec: { readonly name: string; readonly argv: readonly string[] }): string | undefined {
  try {
    const args = spec.argv.map((a) => a.replace(/^-conf(?=$|=)/, '--conf'));
    const { values } = parseArgs({ args, options: { conf: { type: 'string' } }, strict: true });
    return values.conf ?? `configs/${spec.name}.yaml`;
  } catch {
    return undefined;
  }
}

/** Stops at the primary's message. If the primary dies without one, Node ends the worker when its channel closes. */
function obeyPrimary(app: App): void {
  process.on('message', (message: { type?: string }) => {
    if (message.type === STOP_MESSAGE.type) app.stop();
  });
}
