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

/** The variables from which configs/*.yaml take the addresses of a service. */
export function addressVariables(name: ServiceName, addresses: ServiceAddresses): Record<string, string> {
  const prefix = `KAIMAI_${name.toUpperCase()}`;
  return {
    [`${prefix}_HTTP`]: addresses.http,
    [`${prefix}_GRPC`]: addresses.grpc,
    [`${prefix}_METRICS`]: addresses.metrics,
  };
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
  addresses: ServiceAddresses;
  /** Added to this process's environment. */
  env: Record<string, string>;
  /** A file or directory for -conf. */
  config: string;
  logFile: string;
  timeoutMs: number;
  signal: AbortSignal;
  /** Further options for node, such as --inspect. */
  nodeOptions?: readonly string[];
  spawned?: (child: SpawnedProcess) => void;
}

/** Starts the process of a service and resolves when /readyz answers with 200. */
export async function startService(name: ServiceName, options: ServiceOptions): Promise<Service> {
  const { addresses, logFile } = options;
  const child = spawnProcess({
    name,
    command: process.execPath,
    args: [
      '--enable-source-maps',
      ...(options.nodeOptions ?? []),
      join(projectRoot, `dist/cmd/${name}/main.js`),
      '-conf',
      options.config,
    ],
    env: { ...definedEnvironment(), ...options.env, ...addressVariables(name, addresses) },
    cwd: projectRoot,
    logFile,
    account: undefined,
    stopSignal: 'SIGTERM',
    graceMs: 20_000,
  });
  options.spawned?.(child);
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
  await untilReady(child, logFile, ready, { timeoutMs: options.timeoutMs, signal: options.signal });
  return { name, ...addresses, process: child, logFile };
}

/** A service that is started again in place when it ends or its code changes. */
export class SupervisedService implements Supervised {
  private process: SpawnedProcess | undefined;

  constructor(
    readonly name: ServiceName,
    private readonly options: Omit<ServiceOptions, 'signal'>,
  ) {}

  isRunning(): boolean {
    return this.process !== undefined && isAlive(this.process);
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
    try {
      return await startService(this.name, { ...this.options, signal, spawned });
    } catch (error) {
      if (this.process) await stopProcess(this.process);
      throw error;
    }
  }

  async restart(signal: AbortSignal): Promise<void> {
    if (this.process) await stopProcess(this.process);
    await this.start(signal);
  }
}

function definedEnvironment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
