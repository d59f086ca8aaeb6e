/** What one `kaimai up` runs, and a record of it on disk, so that the next one finds what a launcher that died left. */
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runFolder } from './project.js';
import { isRoot } from './servers/account.js';
import {
  isAlive,
  killProcessNow,
  type ManagedProcess,
  type ProcessId,
  startTime,
  stopProcess,
} from './servers/process.js';
import type { RunningServer } from './servers/server.js';

const RECORD = join(runFolder, 'up.json');

interface Record {
  launcher: ProcessId;
  services: ManagedProcess[];
}

/** Something that ended although it should run. */
export interface Casualty {
  name: string;
  logFile: string | undefined;
}

export class Launch {
  readonly #services: { process: ManagedProcess; logFile: string }[] = [];
  readonly #starting: Promise<RunningServer>[] = [];
  readonly #servers: RunningServer[] = [];

  private constructor() {}

  /** Takes the project for this launcher. Stops services that a dead launcher left; throws when a live one is there. */
  static async begin(): Promise<Launch> {
    mkdirSync(runFolder, { recursive: true });
    // The accounts of the servers pass through it.
    if (isRoot) chmodSync(runFolder, 0o755);
    const earlier = readRecord();
    if (earlier && isAlive(earlier.launcher)) {
      throw new Error(`kaimai up already runs here (pid ${earlier.launcher.pid}). Its addresses are in .run/env`);
    }
    // The code may have changed since: services are started anew, unlike servers.
    await Promise.all((earlier?.services ?? []).map(stopProcess));
    const launch = new Launch();
    launch.#save();
    return launch;
  }

  /** A start that fails cleans up after itself; `end` waits for that. */
  async addServer(starting: Promise<RunningServer>): Promise<RunningServer> {
    this.#starting.push(starting);
    const server = await starting;
    this.#servers.push(server);
    return server;
  }

  addService(process: ManagedProcess, logFile: string): void {
    this.#services.push({ process, logFile });
    this.#save();
  }

  /** The first thing found to have ended. */
  casualty(): Casualty | undefined {
    const service = this.#services.find(({ process }) => !isAlive(process));
    if (service) return { name: service.process.name, logFile: service.logFile };
    for (const { processes, logFile } of this.#servers) {
      const ended = processes.find((managed) => !isAlive(managed));
      if (ended) return { name: ended.name, logFile };
    }
    return undefined;
  }

  /** Stops services, then servers, since the former write to the latter on their way out. Returns what failed. */
  async end(): Promise<unknown[]> {
    await Promise.allSettled(this.#starting);
    const services = await Promise.allSettled(this.#services.map(({ process }) => stopProcess(process)));
    const servers = await Promise.allSettled(this.#servers.map((server) => server.stop()));
    rmSync(RECORD, { force: true });
    return [...services, ...servers].flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
  }

  /** For those who cannot wait for `end`, which is then quick. */
  kill(): void {
    const processes = [...this.#services.map(({ process }) => process), ...this.#servers.flatMap((s) => s.processes)];
    for (const managed of processes) killProcessNow(managed);
  }

  #save(): void {
    const launcher = { pid: process.pid, startedAt: startTime(process.pid) ?? '' };
    const record: Record = { launcher, services: this.#services.map((service) => service.process) };
    writeFileSync(RECORD, JSON.stringify(record), { mode: 0o600 });
  }
}

function readRecord(): Record | undefined {
  try {
    return JSON.parse(readFileSync(RECORD, 'utf8')) as Record;
  } catch {
    return undefined;
  }
}
