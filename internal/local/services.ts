import { join } from 'node:path';
import { projectRoot } from './project.js';
import { isAlive, type SpawnedProcess, spawnProcess, stopProcess, tail, untilReady } from './servers/process.js';
import type { Supervised } from './supervisor.js';

export type ServiceName = 'product' | 'resource';

/** Where a service listens, each as host:port. */
export interface ServiceAddresses {
  http: string;
  grpc: string;
  metrics: string;
}

export interface Service extends ServiceAddresses {
  name: ServiceName;
  process: SpawnedProcess;
  logFile: string;
}

export const standardServicePorts: Record<ServiceName, Record<keyof ServiceAddresses, number>> = {
  product: { http: 8000, grpc: 9000, metrics: 9100 },
  resource: { http: 8001, grpc: 9001, metrics: 9101 },
};

/** The variables by which other programs find a service. */
export function addressVariables(name: ServiceName, addresses: ServiceAddresses): Record<string, string> {
  const prefix = `KAIMAI_${name.toUpperCase()}`;
  return {
    [`${prefix}_HTTP`]: addresses.http,
    [`${prefix}_GRPC`]: addresses.grpc,
    [`${prefix}_METRICS`]: addresses.metrics,
  };
}

/** The settings that make a service listen at its addresses. */
function listenVariables({ http, grpc, metrics }: ServiceAddresses): Record<string, string> {
  return { KAIMAI_SERVER_HTTP_ADDR: http, KAIMAI_SERVER_GRPC_ADDR: grpc, KAIMAI_SERVER_METRICS_ADDR: metrics };
}

export async function pickAddresses(
  name: ServiceName,
  port: (standard: number) => Promise<number>,
): Promise<ServiceAddresses> {
  const standard = standardServicePorts[name];
  return {
    http: `127.0.0.1:${await port(standard.http)}`,
    grpc: `127.0.0.1:${await port(standard.grpc)}`,
    metrics: `127.0.0.1:${await port(standard.metrics)}`,
  };
}

export interface ServiceOptions {
  /** What the process is called in messages and in its log. Default: the name of the service. */
  label?: string;
  addresses: ServiceAddresses;
  /** Added to this process's environment. */
  env: Record<string, string>;
  /** A file or directory for -conf. */
  config: string;
  logFile: string;
  timeoutMs: number;
  signal: AbortSignal;
  /** Lets a debugger attach on this port. */
  inspectorPort?: number | undefined;
  spawned?: (child: SpawnedProcess) => void;
}

/** Starts the process of a service and resolves when /readyz answers with 200. */
export async function startService(name: ServiceName, options: ServiceOptions): Promise<Service> {
  const inspect = options.inspectorPort === undefined ? [] : [`--inspect=127.0.0.1:${options.inspectorPort}`];
  const child = spawnService(name, options, [...inspect, mainOf(name), '-conf', options.config]);
  options.spawned?.(child);
  await untilServing(child, options);
  return { name, ...options.addresses, process: child, logFile: options.logFile };
}

type SpawnServiceOptions = Pick<ServiceOptions, 'label' | 'addresses' | 'env' | 'logFile'>;

function spawnService(
  name: ServiceName,
  { label, addresses, env, logFile }: SpawnServiceOptions,
  args: readonly string[],
  stdin?: 'open',
): SpawnedProcess {
  return spawnProcess({
    name: label ?? name,
    command: process.execPath,
    args: ['--enable-source-maps', ...args],
    env: { ...definedEnvironment(), ...env, ...listenVariables(addresses) },
    cwd: projectRoot,
    logFile,
    account: undefined,
    stopSignal: 'SIGTERM',
    graceMs: 20_000,
    ...(stdin && { stdin }),
  });
}

async function untilServing(
  child: SpawnedProcess,
  { addresses, logFile, timeoutMs, signal }: Pick<ServiceOptions, 'addresses' | 'logFile' | 'timeoutMs' | 'signal'>,
): Promise<void> {
  const ready = async () => {
    // After it ended, another process may answer on its port.
    if (child.exit !== undefined) return false;
    try {
      const reply = await fetch(`http://${addresses.metrics}/readyz`, { signal: AbortSignal.timeout(2000) });
      await reply.body?.cancel();
      return reply.ok;
    } catch {
      return false;
    }
  };
  await untilReady(child, logFile, ready, { timeoutMs, signal });
}

function mainOf(name: ServiceName): string {
  return join(projectRoot, `dist/cmd/${name}/main.js`);
}

/** A service that is started again in place when it ends or its code changes. */
export class SupervisedService implements Supervised {
  private process: SpawnedProcess | undefined;
  private standby: SpawnedProcess | undefined;

  /** @param options.keepStandby hold a process ready for the next start (see standby.ts) */
  constructor(
    private readonly service: ServiceName,
    private readonly options: Omit<ServiceOptions, 'signal'> & { keepStandby?: boolean },
  ) {}

  get name(): string {
    return this.options.label ?? this.service;
  }

  /** Until Node has said how the process ended: the kernel shows that it is gone a moment earlier, without the reason. */
  isRunning(): boolean {
    return this.process !== undefined && this.process.exit === undefined;
  }

  describeExit(): string {
    const { logFile } = this.options;
    return `${this.name} ${this.process?.exit ?? 'ended'}. The end of its log (${logFile}):\n${tail(logFile)}`;
  }

  async start(signal: AbortSignal): Promise<Service> {
    const spawned = (child: SpawnedProcess) => {
      this.process = child;
      this.options.spawned?.(child);
    };
    const { standby } = this;
    this.standby = undefined;
    try {
      if (!standby || !isAlive(standby)) return await startService(this.service, { ...this.options, signal, spawned });
      spawned(standby);
      standby.send('start');
      await untilServing(standby, { ...this.options, signal });
      return { name: this.service, ...this.options.addresses, process: standby, logFile: this.options.logFile };
    } catch (error) {
      if (this.process) await stopProcess(this.process);
      throw error;
    } finally {
      if (this.options.keepStandby && !signal.aborted) this.standby = this.spawnStandby();
    }
  }

  async restart(signal: AbortSignal): Promise<void> {
    if (this.process) await stopProcess(this.process);
    await this.start(signal);
  }

  private spawnStandby(): SpawnedProcess {
    const { inspectorPort = 0, config } = this.options;
    const standby = join(projectRoot, 'dist/internal/local/standby.js');
    return spawnService(
      this.service,
      this.options,
      [standby, String(inspectorPort), mainOf(this.service), '-conf', config],
      'open',
    );
  }
}

function definedEnvironment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
