import { setTimeout as sleep } from 'node:timers/promises';
import type { ServiceAddresses } from '../../internal/local/services.js';
import { Again, type Answer, type Click, PurchaseClient, type Way } from './purchase-client.js';

/** The final reply to a buyer. */
export interface Told extends Click, Answer {
  readonly way: Way;
  /** By performance.now(). */
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
  /** Number of calls: a rejected or unanswered call is repeated. */
  readonly attempts: number;
}

/** Concurrent purchases of one item per transport; a batch counts as one. */
const LANES: Readonly<Record<Way, number>> = { grpc: 96, json: 24, batch: 8, stream: 32 };
const CALL_TIMEOUT_MS = 10_000;
const PAUSE_MS = 40;
/** So long that a busy machine can bring a server back meanwhile. */
const GIVE_UP_AFTER_MS = 120_000;

/** Buyers of one item, in front of all replicas of product. */
export class Crowd {
  readonly told: Told[] = [];
  /** QUEUED replies so far. */
  queued = 0;
  private readonly clients: PurchaseClient[];
  private closed = false;

  constructor(
    private readonly replicas: readonly ServiceAddresses[],
    private readonly itemId: bigint,
  ) {
    this.clients = replicas.map((r) => new PurchaseClient(r, { sockets: LANES.json, timeoutMs: CALL_TIMEOUT_MS }));
  }

  close(): void {
    this.closed = true;
    for (const client of this.clients) client.close();
  }

  /** One click, as a unary call to one replica. */
  async click(click: Click, replica = 0): Promise<Told> {
    return (await this.send([click], 'grpc', replica))[0]!;
  }

  /**
   * Sends all clicks, those of each transport in their order, with bounded concurrency.
   * @param choose the transport and the replica of a click
   */
  async rush(
    clicks: readonly Click[],
    choose: (click: Click) => { readonly way: Way; readonly replica: number },
    batchSize = 100,
  ): Promise<void> {
    const queues = new Map<string, { way: Way; replica: number; calls: Click[][] }>();
    for (const click of clicks) {
      const { way, replica } = choose(click);
      const queue = queues.get(`${way} ${replica}`) ?? { way, replica, calls: [] };
      queues.set(`${way} ${replica}`, queue);
      const last = queue.calls.at(-1);
      if (way === 'batch' && last && last.length < batchSize) last.push(click);
      else queue.calls.push([click]);
    }
    await Promise.all(
      [...queues.values()].map(async ({ way, replica, calls }) => {
        let next = 0;
        const lane = async () => {
          while (next < calls.length) await this.send(calls[next++]!, way, replica);
        };
        await Promise.all(Array.from({ length: Math.ceil(LANES[way] / this.replicas.length) }, lane));
      }),
    );
  }

  private async send(clicks: readonly Click[], way: Way, replica: number): Promise<readonly Told[]> {
    const answers = new Map<Click, Told>();
    const sentAtMs = performance.now();
    let open = [...clicks];
    for (let attempts = 1; open.length > 0; attempts++) {
      const isLate = performance.now() - sentAtMs > GIVE_UP_AFTER_MS;
      if (this.closed || isLate) throw new Error(`${open.length} purchases got no reply`);
      const replies = await this.clients[replica]!.purchase(this.itemId, open, way).catch((err: unknown) => {
        if (!(err instanceof Again)) throw err;
        return open.map(() => undefined);
      });
      const answeredAtMs = performance.now();
      open.forEach((click, i) => {
        const reply = replies[i];
        if (!reply) return;
        if (reply.code === 'QUEUED') this.queued += 1;
        answers.set(click, { ...click, ...reply, way, sentAtMs, answeredAtMs, attempts });
      });
      open = open.filter((click) => !answers.has(click));
      if (open.length > 0) await sleep(PAUSE_MS * (0.5 + Math.random()));
    }
    const told = clicks.map((click) => answers.get(click)!);
    this.told.push(...told);
    return told;
  }
}
