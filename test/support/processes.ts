/**
 * Runs the real processes in a test, from dist/.
 *
 *     const servers = useServers('postgres', 'redis', 'rabbitmq');
 *     const processes = useProcesses();
 *     it('…', async () => {
 *       const product = await processes.start('product', { env: servers.env() });
 *       const resource = await processes.start('resource', { env: { ...servers.env(), ...product.env() } });
 *       await fetch(`http://${product.http}/v1/products`);
 *       await product.kill();                      // SIGKILL, resolves when it has exited
 *       const again = await product.again();       // the same addresses and settings
 *       assert.equal(await again.stop(), 'exited with code 0');
 *     });
 *
 * `start` resolves when /readyz succeeds, and fails with the end of the log. Declare `useProcesses` after `useServers`.
 * After the suite's last test all processes are stopped; a process that is left behind fails the suite.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectRoot } from '../../internal/local/project.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { killProcessNow, type SpawnedProcess, stopProcess } from '../../internal/local/servers/process.js';
import {
  addressVariables,
  pickAddresses,
  type ServiceAddresses,
  type ServiceName,
  startService,
} from '../../internal/local/services.js';
import { undocumentedReasons } from './documented-reasons.js';
import { eventually } from './wait.js';

export interface ProcessOptions {
  /** Added to the environment. */
  env?: Record<string, string>;
  /** Overrides of the settings in configs/<name>.yaml, in the shape of internal/conf/conf.proto. */
  config?: Record<string, unknown>;
  /** Default: free ones. */
  addresses?: ServiceAddresses;
  /** Default 120 s. */
  timeoutMs?: number;
}

export class TestProcess implements ServiceAddresses {
  readonly http: string;
  readonly grpc: string;
  readonly metrics: string;

  constructor(
    readonly name: ServiceName,
    readonly child: SpawnedProcess,
    readonly logFile: string,
    addresses: ServiceAddresses,
    readonly again: () => Promise<TestProcess>,
    /** Receives the reasons that the process returned without documenting them. */
    private readonly undocumented: Set<string>,
  ) {
    this.http = addresses.http;
    this.grpc = addresses.grpc;
    this.metrics = addresses.metrics;
  }

  get pid(): number {
    return this.child.pid;
  }

  /** The environment variables by which the other service finds this one. */
  env(): Record<string, string> {
    return addressVariables(this.name, this);
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  /** Kills the process and its workers. */
  async kill(): Promise<void> {
    killProcessNow(this.child);
    await this.ended();
  }

  /** Stops it as a supervisor does. Resolves with how it ended: 'exited with code 0' if all went well. */
  async stop(): Promise<string> {
    await this.recordReasons();
    await stopProcess(this.child);
    return this.ended();
  }

  /** Has no effect on a process that has ended or does not answer. */
  async recordReasons(): Promise<void> {
    if (this.child.exit !== undefined) return;
    try {
      const reply = await fetch(`http://${this.metrics}/metrics`, { signal: AbortSignal.timeout(2_000) });
      for (const reason of undocumentedReasons(await reply.text())) this.undocumented.add(reason);
    } catch {
      // It was stopped, killed or disconnected by the test.
    }
  }

  private ended(): Promise<string> {
    return eventually(`the end of ${this.name}`, () => this.child.exit);
  }
}

export class TestProcesses {
  private readonly children: SpawnedProcess[] = [];
  private readonly started: TestProcess[] = [];
  private readonly undocumented = new Set<string>();
  private folder: string | undefined;
  private count = 0;

  async start(name: ServiceName, options: ProcessOptions = {}): Promise<TestProcess> {
    this.folder ??= mkdtempSync(join(tmpdir(), 'kaimai-processes-'));
    const number = ++this.count;
    const logFile = join(this.folder, `${number}-${name}.log`);
    const addresses = options.addresses ?? (await pickAddresses(name, freePort));
    const { process: child } = await startService(name, {
      addresses,
      env: options.env ?? {},
      config: this.configuration(name, number, options.config),
      logFile,
      timeoutMs: options.timeoutMs ?? 120_000,
      signal: new AbortController().signal,
      spawned: (spawned) => this.children.push(spawned),
    });
    const again = () => this.start(name, { ...options, addresses });
    const started = new TestProcess(name, child, logFile, addresses, again, this.undocumented);
    this.started.push(started);
    return started;
  }

  /**
   * Stops all. Throws if a process was left behind, after killing it, or if one returned an error reason that the API
   * documents do not list. @internal
   */
  async end(): Promise<void> {
    await Promise.all(this.started.map((process) => process.recordReasons()));
    await Promise.all(this.children.map(stopProcess));
    const leftovers = this.children.flatMap((child) => processesInGroup(child.pid));
    for (const pid of leftovers) process.kill(pid, 'SIGKILL');
    if (this.folder) rmSync(this.folder, { recursive: true, force: true });
    if (leftovers.length > 0) throw new Error(`processes were left behind: ${leftovers.join(', ')}`);
    if (this.undocumented.size > 0) {
      const list = [...this.undocumented].join(', ');
      throw new Error(`reasons that (errors.reasons) of their RPC does not declare: ${list}`);
    }
  }

  /** -conf accepts a directory, whose files are merged in the order of their names. */
  private configuration(name: ServiceName, number: number, overrides: Record<string, unknown> | undefined): string {
    const base = join(projectRoot, `configs/${name}.yaml`);
    if (!overrides || !this.folder) return base;
    const folder = join(this.folder, `${number}-conf`);
    mkdirSync(folder);
    symlinkSync(base, join(folder, '10-base.yaml'));
    // JSON is YAML.
    writeFileSync(join(folder, '20-test.yaml'), JSON.stringify(overrides));
    return folder;
  }
}

/** The live processes of a process group; a service and its workers form one. */
function processesInGroup(group: number): number[] {
  const found: number[] = [];
  for (const entry of process.platform === 'linux' ? readdirSync('/proc') : []) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      const [state, , processGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(processGroup) === group && state !== 'Z' && state !== 'X') found.push(Number(entry));
    } catch {
      // The process has exited.
    }
  }
  return found;
}

/** Registers the hook of the enclosing suite. */
export function useProcesses(): TestProcesses {
  const processes = new TestProcesses();
  after('stop the processes', async () => {
    await processes.end();
  });
  return processes;
}
