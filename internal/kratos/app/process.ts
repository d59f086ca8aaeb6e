import cluster from 'node:cluster';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import type { Config } from '../../conf/config.js';
import { LiveConfig } from '../../conf/live.js';
import { ConfigError } from '../../conf/load.js';
import type { Logger } from '../log/logger.js';
import { PinoLogger } from '../log/pino-logger.js';
import { startTracing } from '../tracing/start-tracing.js';
import type { App } from './app.js';
import { Resources } from './resources.js';
import { Worker } from './worker.js';
import { runPrimary, STOP_MESSAGE, WORKER_INDEX } from './workers.js';

/** What is settled before a container can be built. */
export interface ProcessContext {
  readonly config: Config;
  /** The same, as the files change. */
  readonly live: LiveConfig;
  readonly logger: Logger;
  readonly worker: Worker;
  /** Closed by the app at its end, or here where there comes to be no app. */
  readonly resources: Resources;
}

export interface ProcessSpec {
  /** "product" or "resource". */
  readonly name: string;
  readonly argv: readonly string[];
  /** Loads what it wires only when it is called: tracing has to come first. */
  readonly wire: (context: ProcessContext) => Promise<App>;
}

const USAGE_FAULT = 2;

/** Runs a process from its arguments to its exit code: `-conf <file or directory>`. */
export async function runProcess(spec: ProcessSpec): Promise<number> {
  try {
    return await run(spec);
  } finally {
    // The channel to the primary would keep a worker alive.
    if (cluster.isWorker && process.connected) process.disconnect();
  }
}

async function run(spec: ProcessSpec): Promise<number> {
  const path = configPath(spec);
  if (path === undefined) {
    process.stderr.write(`usage: ${spec.name} [-conf <YAML file or directory>]\n`);
    return USAGE_FAULT;
  }
  let live: LiveConfig;
  try {
    live = new LiveConfig(path);
  } catch (err) {
    if (!(err instanceof ConfigError)) throw err;
    process.stderr.write(`${err.message}\n`);
    return 1;
  }
  const config = live.current;
  const count = config.server.workers === 'auto' ? availableParallelism() : Number(config.server.workers);
  const index = Number(process.env[WORKER_INDEX] ?? 0);
  const fields = { app: spec.name, pid: process.pid };
  if (count > 1 && cluster.isPrimary) {
    return runPrimary(spec.name, count, config, PinoLogger.create(config.log, fields));
  }
  const logger = PinoLogger.create(config.log, count > 1 ? { ...fields, worker: index } : fields);
  live.onChange((changed) => {
    logger.level = changed.log.level;
  });
  const worker = new Worker(spec.name, index, count);
  const stopTracing = config.trace.endpoint === '' ? undefined : await startTracing(config.trace, spec.name);
  const resources = new Resources();
  let app: App;
  try {
    app = await spec.wire({ config, live, logger, worker, resources });
  } catch (err) {
    if (err instanceof ConfigError) process.stderr.write(`${err.message}\n`);
    else logger.error('cannot be wired', { err });
    // What is open would keep the process alive, and its supervisor waiting.
    await resources.close();
    return 1;
  }
  if (cluster.isWorker) obeyPrimary(app);
  const code = await app.run();
  await stopTracing?.();
  return code;
}

/** Kratos' `-conf` next to the usual `--conf`. */
function configPath(spec: ProcessSpec): string | undefined {
  try {
    const args = spec.argv.map((a) => a.replace(/^-conf(?=$|=)/, '--conf'));
    const { values } = parseArgs({ args, options: { conf: { type: 'string' } }, strict: true });
    return values.conf ?? `configs/${spec.name}.yaml`;
  } catch {
    return undefined;
  }
}

/** Its word to stop. A primary that is gone without one takes its workers along: Node ends a worker without channel. */
function obeyPrimary(app: App): void {
  process.on('message', (message: { type?: string }) => {
    if (message.type === STOP_MESSAGE.type) app.stop();
  });
}
