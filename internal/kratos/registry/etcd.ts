import { setTimeout as sleep } from 'node:timers/promises';
import { noop } from 'cockatiel';
import { Etcd3 } from 'etcd3';
import type { Logger } from '../log/logger.js';
import type { Discovery, Instances } from './discovery.js';
import { formatInstance, parseInstance, type ServiceInstance, ServiceRegistry } from './service-registry.js';

export interface EtcdRegistryOptions {
  readonly endpoints: readonly string[];
  /** Prefix of every key. */
  readonly prefix: string;
  /** How long an entry outlives its process. */
  readonly ttlMs: number;
}

const CALL_TIMEOUT_MS = 1_000;
const REVOKE_TIMEOUT_MS = 1_000;
const BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5_000;
/** A watch can end unnoticed; polling finds what it missed. */
const POLL_MS = 10_000;
const REOPEN_MS = 500;

/**
 * Entries `<prefix>/<name>/<id>` in etcd, each with its own lease. Every call has a timeout and is retried in the
 * background, so etcd may be unavailable for any length of time.
 */
export class EtcdRegistry extends ServiceRegistry implements Discovery {
  private readonly etcd: Etcd3;
  private readonly watches = new Set<() => void>();
  private entry: { readonly stop: AbortController; readonly ended: Promise<string | undefined> } | undefined;

  constructor(
    private readonly options: EtcdRegistryOptions,
    private readonly logger: Logger,
  ) {
    super();
    this.etcd = new Etcd3({
      hosts: [...options.endpoints],
      // The loops of this class retry; a breaker or retries below them would only add delays.
      faultHandling: { host: () => noop, global: noop },
      grpcOptions: { 'grpc.initial_reconnect_backoff_ms': 100, 'grpc.max_reconnect_backoff_ms': MAX_BACKOFF_MS },
    });
  }

  /** Resolves immediately, because a service must not wait for its registry. */
  override async register(instance: ServiceInstance): Promise<void> {
    if (this.entry) throw new Error('already registered');
    const stop = new AbortController();
    this.entry = { stop, ended: this.keepRegistered(instance, stop.signal) };
  }

  /** If etcd does not answer in time, the entry expires with its lease. */
  override async deregister(): Promise<void> {
    const entry = this.entry;
    if (!entry) return;
    this.entry = undefined;
    entry.stop.abort();
    const lease = await entry.ended;
    if (lease === undefined) return;
    try {
      await this.etcd.leaseClient.leaseRevoke({ ID: lease }, { deadline: Date.now() + REVOKE_TIMEOUT_MS });
      this.logger.info('deregistered');
    } catch (err) {
      this.logger.warn('cannot deregister; the entry expires with its lease', { err });
    }
  }

  async close(): Promise<void> {
    await this.deregister();
    for (const stop of [...this.watches]) stop();
    this.etcd.close();
  }

  watch(name: string, listener: (found: Instances) => void): () => void {
    const stop = new AbortController();
    const end = () => {
      this.watches.delete(end);
      stop.abort();
    };
    this.watches.add(end);
    void this.follow(name, listener, stop.signal);
    return end;
  }

  /** Keeps an entry listed until `signal` is aborted; resolves with its last lease. Never rejects. */
  private async keepRegistered(instance: ServiceInstance, signal: AbortSignal): Promise<string | undefined> {
    const key = `${this.options.prefix}/${instance.name}/${instance.id}`;
    let lease: string | undefined;
    let listed = false;
    let failures = 0;
    while (!signal.aborted) {
      try {
        if (lease !== undefined && !(await this.keepAlive(lease))) {
          if (listed) this.logger.warn('the registry entry has expired; registering again', { key });
          lease = undefined;
          listed = false;
        }
        lease ??= await this.grant();
        if (!listed) {
          const value = Buffer.from(formatInstance(instance));
          await this.etcd.kv.put({ key: Buffer.from(key), value, lease }, bounded());
          listed = true;
          this.logger.info('registered', { key, endpoints: instance.endpoints });
        }
        failures = 0;
      } catch (err) {
        failures++;
        if (failures === 1) this.logger.warn('the registry does not answer; retrying in the background', { err });
      }
      await pause(failures === 0 ? this.options.ttlMs / 3 : backoff(failures), signal);
    }
    return lease;
  }

  private async grant(): Promise<string> {
    const { ID } = await this.etcd.leaseClient.leaseGrant({ TTL: Math.ceil(this.options.ttlMs / 1000) }, bounded());
    return ID;
  }

  /** Whether the lease is still valid. */
  private async keepAlive(lease: string): Promise<boolean> {
    const stream = await this.etcd.leaseClient.leaseKeepAlive(bounded());
    try {
      return await new Promise<boolean>((resolve, reject) => {
        stream.on('error', reject);
        stream.on('end', () => reject(new Error('etcd ended the stream')));
        stream.on('data', (reply) => resolve(Number(reply.TTL) > 0));
        stream.write({ ID: lease });
      });
    } finally {
      stream.on('error', () => undefined);
      stream.cancel();
    }
  }

  /** Reads the entries of a name, and again at each hint of the watch, until `signal` is aborted. */
  private async follow(name: string, listener: (found: Instances) => void, signal: AbortSignal): Promise<void> {
    let told = '';
    let known = false;
    let failures = 0;
    const wake = new Wake();
    const watcher = new Watcher(this.etcd, `${this.options.prefix}/${name}/`, () => wake.now());
    signal.addEventListener('abort', () => wake.now(), { once: true });
    while (!signal.aborted) {
      wake.reset();
      try {
        await watcher.open();
        const instances = await this.read(name);
        if (signal.aborted) break;
        failures = 0;
        const text = instances.map(formatInstance).join('\n');
        if (instances.length > 0 && text !== told) {
          told = text;
          known = true;
          listener({ kind: 'known', instances });
        } else if (instances.length === 0 && !known) {
          listener({ kind: 'unknown', error: `no instance of ${name} is registered` });
        } else if (instances.length === 0 && told !== '') {
          told = '';
          this.logger.warn('the registry has no instances any more; the last known ones stay in use', {
            service: name,
          });
        }
      } catch (err) {
        failures++;
        if (failures === 1) {
          this.logger.warn('the registry does not answer; the last known instances stay in use', {
            service: name,
            err,
          });
        }
        if (!known && !signal.aborted) listener({ kind: 'unknown', error: 'the registry does not answer' });
      }
      // After a failure, hints do not shorten the wait: the watch gives one each time it breaks.
      if (failures > 0) await pause(backoff(failures), signal);
      else await wake.within(watcher.isOpen ? POLL_MS : REOPEN_MS);
    }
    watcher.close();
  }

  private async read(name: string): Promise<ServiceInstance[]> {
    const prefix = `${this.options.prefix}/${name}/`;
    const { kvs } = await this.etcd.kv.range(
      { key: Buffer.from(prefix), range_end: endOf(prefix), limit: 1_000 },
      bounded(),
    );
    const instances = kvs.map((kv) => parseInstance(kv.value.toString()));
    return instances.filter((i): i is ServiceInstance => i !== undefined && i.name === name);
  }
}

type WatchStream = Awaited<ReturnType<Etcd3['watchClient']['watch']>>;

/** Gives a hint when something under a prefix has changed, or might have. */
class Watcher {
  private stream: WatchStream | undefined;
  private closed = false;
  private openedAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly etcd: Etcd3,
    private readonly prefix: string,
    private readonly onHint: () => void,
  ) {}

  get isOpen(): boolean {
    return this.stream !== undefined;
  }

  async open(): Promise<void> {
    if (this.stream || this.closed || performance.now() - this.openedAt < REOPEN_MS) return;
    this.openedAt = performance.now();
    const stream = await this.etcd.watchClient.watch();
    if (this.closed) {
      stream.on('error', () => undefined);
      stream.cancel();
      return;
    }
    this.stream = stream;
    const over = () => {
      if (this.stream !== stream) return;
      this.stream = undefined;
      this.onHint();
    };
    stream.on('error', over);
    stream.on('end', over);
    // The first message confirms the watch, so it triggers a read of what changed before.
    stream.on('data', () => this.onHint());
    stream.write({ create_request: { key: Buffer.from(this.prefix), range_end: endOf(this.prefix) } });
  }

  close(): void {
    this.closed = true;
    const stream = this.stream;
    this.stream = undefined;
    stream?.cancel();
  }
}

/** Ends a wait early, even one that has not begun. */
class Wake {
  private early = new AbortController();

  reset(): void {
    this.early = new AbortController();
  }

  now(): void {
    this.early.abort();
  }

  within(ms: number): Promise<void> {
    return pause(ms, this.early.signal);
  }
}

/** The first key after all those with `prefix`, which ends with "/". */
function endOf(prefix: string): Buffer {
  return Buffer.from(`${prefix.slice(0, -1)}0`);
}

function bounded(): { deadline: number } {
  return { deadline: Date.now() + CALL_TIMEOUT_MS };
}

function backoff(failures: number): number {
  return Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** Math.min(failures - 1, 10)) * (0.5 + Math.random() / 2);
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return sleep(ms, undefined, { signal }).catch(() => undefined);
}
