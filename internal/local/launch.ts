/** What one `kaimai up` runs, and a record of it on disk, by which the next one finds what a killed launcher left. */
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

interface LaunchRecord {
  launcher: ProcessId;
  services: ManagedProcess[];
  /** Processes of clusters, which begin empty and so are not adopted. Absent in records of earlier versions. */
  engines?: ManagedProcess[];
}

export class Launch {
  private readonly services = new Map<string, ManagedProcess>();
  private readonly starting: Promise<RunningServer>[] = [];
  private readonly servers: RunningServer[] = [];
  private readonly engines: ManagedProcess[] = [];
  private readonly endings: (() => Promise<void>)[] = [];

  private constructor() {}

  /**
   * Claims the project for this launcher, and stops the services that a killed launcher left.
   *
   * @throws when another launcher runs
   */
  static async begin(): Promise<Launch> {
    mkdirSync(runFolder, { recursive: true });
    // The accounts of the servers pass through it.
    if (isRoot) chmodSync(runFolder, 0o755);
    const earlier = readRecord();
    if (earlier && isAlive(earlier.launcher)) {
      throw new Error(`kaimai up already runs here (pid ${earlier.launcher.pid}). Its addresses are in .run/env`);
    }
    // Unlike servers, services are started again: the code may have changed since.
    await Promise.all((earlier?.services ?? []).map(stopProcess));
    for (const engine of earlier?.engines ?? []) killProcessNow(engine);
    const launch = new Launch();
    launch.save();
    return launch;
  }

  /** A start that fails cleans up after itself; `end` waits for that. */
  async addServer(starting: Promise<RunningServer>): Promise<RunningServer> {
    this.starting.push(starting);
    const server = await starting;
    this.servers.push(server);
    return server;
  }

  /** Adds a service, or replaces its process after a restart. */
  setService(process: ManagedProcess): void {
    this.services.set(process.name, process);
    this.save();
  }

  /** Adds a process of a cluster; the cluster itself is added as a server. */
  addEngine(process: ManagedProcess): void {
    this.engines.push(process);
    this.save();
  }

  /** Called before anything is stopped. */
  atEnd(ending: () => Promise<void>): void {
    this.endings.push(ending);
  }

  /** Stops services, then servers, because services write to servers while they stop. Returns the errors. */
  async end(): Promise<unknown[]> {
    await Promise.allSettled(this.starting);
    for (const ending of this.endings) await ending();
    const services = await Promise.allSettled([...this.services.values()].map(stopProcess));
    const servers = await Promise.allSettled(this.servers.map((server) => server.stop()));
    rmSync(RECORD, { force: true });
    return [...services, ...servers].flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
  }

  /** Kills everything at once, so that a pending `end` has nothing left to wait for. */
  kill(): void {
    const processes = [...this.services.values(), ...this.servers.flatMap((server) => server.processes)].concat(
      this.engines,
    );
    for (const managed of processes) killProcessNow(managed);
  }

  private save(): void {
    const launcher = { pid: process.pid, startedAt: startTime(process.pid) ?? '' };
    const record: LaunchRecord = { launcher, services: [...this.services.values()], engines: this.engines };
    writeFileSync(RECORD, JSON.stringify(record), { mode: 0o600 });
  }
}

function readRecord(): LaunchRecord | undefined {
  try {
    return JSON.parse(readFileSync(RECORD, 'utf8')) as LaunchRecord;
  } catch {
    return undefined;
  }
}
