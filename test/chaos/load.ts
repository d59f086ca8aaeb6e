import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../simulation/random.js';
import { Bff, uuidOf } from '../support/bff.js';
import {
  Again,
  type Answer,
  type Click,
  PurchaseClient,
  type Way as ServiceWay,
  WAYS,
} from '../support/purchase-client.js';
import type { Stage } from './stage.js';

/** `script`: a foreign client that runs the published script itself. */
export type Way = ServiceWay | 'script';

/** An item on sale. */
export interface Offer {
  readonly itemId: bigint;
  /** Whether buyers pay, or cancel, after the order exists. */
  readonly payLater: boolean;
  /** Whether it has more units than will be asked for, so that no answer but QUEUED is right. */
  readonly plenty: boolean;
}

/** One buyer's one purchase, however many calls it took. */
export interface Purchase extends Click {
  readonly offer: Offer;
  readonly way: Way;
  readonly sentAtMs: number;
  /** undefined: the buyer never learned what became of it. */
  answer: Answer | undefined;
  answeredAtMs: number | undefined;
  /** What was acknowledged of its order. */
  settled: 'PAID' | 'CANCELLED' | undefined;
}

const LANES: Readonly<Record<Way, number>> = { grpc: 3, json: 3, batch: 1, stream: 2, script: 2 };
const BATCH = 8;
const PAUSE_MS = 40;
const CALL_TIMEOUT_MS = 2_000;
/** How long a buyer goes on asking after the load was stopped. */
const PATIENCE_MS = 15_000;
const CANCELLED_SHARE = 0.3;

/** Buyers that come one after another, each with another user, and repeat a call until they know. */
export class Load {
  readonly purchases: Purchase[] = [];
  /** Answers that no fault excuses. */
  readonly unexpected: string[] = [];
  private readonly clients: readonly PurchaseClient[];
  private readonly bffs: ReadonlyMap<bigint, Bff>;
  private lanes: Promise<void>[] = [];
  private readonly payments: Promise<void>[] = [];
  private stopping = false;
  private patienceEndsAtMs = Number.POSITIVE_INFINITY;
  private nextUser: number;

  constructor(
    private readonly stage: Stage,
    private readonly offers: readonly Offer[],
    private readonly random: Random,
    firstUser: number,
  ) {
    this.nextUser = firstUser;
    this.clients = stage.products.map((p) => new PurchaseClient(p.it, { sockets: 16, timeoutMs: CALL_TIMEOUT_MS }));
    this.bffs = new Map(offers.map((o) => [o.itemId, new Bff(stage.redis.url, String(o.itemId), CALL_TIMEOUT_MS)]));
  }

  /** The user that none of its purchases has. */
  get userAfter(): number {
    return this.nextUser;
  }

  get queued(): number {
    return this.purchases.filter((p) => p.answer?.code === 'QUEUED').length;
  }

  start(): void {
    const ways: Way[] = [...WAYS, 'script'];
    this.lanes = ways.flatMap((way) => Array.from({ length: LANES[way] }, () => this.lane(way)));
  }

  /** When the first purchase that was sent after `sinceMs` was acknowledged. */
  firstSuccessAfter(sinceMs: number): number | undefined {
    const answered = this.purchases
      .filter((p) => p.offer.plenty && p.sentAtMs >= sinceMs && p.answer?.code === 'QUEUED')
      .map((p) => p.answeredAtMs!);
    return answered.length === 0 ? undefined : Math.min(...answered);
  }

  /** Stops new buyers; resolves when all buyers have a final reply or have given up. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.patienceEndsAtMs = performance.now() + PATIENCE_MS;
    await Promise.all(this.lanes);
    for (let i = 0; i < this.payments.length; i++) await this.payments[i];
  }

  close(): void {
    this.stopping = true;
    this.patienceEndsAtMs = 0;
    for (const client of this.clients) client.close();
    for (const bff of this.bffs.values()) bff.close();
  }

  private async lane(way: Way): Promise<void> {
    await this.bffs
      .get(this.offers[0]!.itemId)
      ?.learnEpoch()
      .catch(() => {});
    while (!this.stopping) {
      const offer = this.random.pick(this.offers);
      const purchases = Array.from({ length: way === 'batch' ? BATCH : 1 }, (): Purchase => {
        const user = this.nextUser++;
        const sentAtMs = performance.now();
        const known = { answer: undefined, answeredAtMs: undefined, settled: undefined };
        return { user, requestId: `chaos-${user}`, offer, way, sentAtMs, ...known };
      });
      this.purchases.push(...purchases);
      await this.buy(offer, purchases, way);
      await sleep(PAUSE_MS * this.random.next());
    }
  }

  private async buy(offer: Offer, purchases: readonly Purchase[], way: Way): Promise<void> {
    for (;;) {
      const open = purchases.filter((p) => !p.answer);
      if (open.length === 0 || performance.now() > this.patienceEndsAtMs) return;
      try {
        const answers = await this.call(offer, open, way);
        open.forEach((purchase, i) => {
          const answer = answers[i];
          if (!answer) return;
          purchase.answer = answer;
          purchase.answeredAtMs = performance.now();
          if (offer.payLater && answer.code === 'QUEUED') this.payments.push(this.settle(purchase));
        });
      } catch (err) {
        if (!(err instanceof Again)) this.unexpected.push(`${way}: ${(err as Error).message}`);
      }
      await sleep(PAUSE_MS * (0.5 + this.random.next()));
    }
  }

  private async call(offer: Offer, clicks: readonly Click[], way: Way): Promise<readonly (Answer | undefined)[]> {
    // Another replica than the last time, as behind a load balancer.
    if (way !== 'script') return this.random.pick(this.clients).purchase(offer.itemId, clicks, way);
    const asked = clicks.map(({ user, requestId }) => ({ uid: uuidOf(user), requestId }));
    try {
      const outcomes = await this.bffs.get(offer.itemId)!.attempt(asked);
      return (outcomes ?? []).map((outcome) => scriptAnswer(offer, outcome));
    } catch (err) {
      throw isRedisFault(err) ? new Again() : err;
    }
  }

  /** Waits for the order of a purchase and pays or cancels it. */
  private async settle(purchase: Purchase): Promise<void> {
    const cancels = this.random.chance(CANCELLED_SHARE);
    const { seckillId } = purchase.answer!;
    const user = { 'x-user-id': String(purchase.user) };
    while (performance.now() < this.patienceEndsAtMs) {
      const record = await this.json('GET', `/v1/seckill/${seckillId}`, user);
      const orderId = record?.body.orderId;
      if (record?.status === 200 && record.body.status === 'AWAIT_PAY') {
        const done = cancels
          ? await this.json('POST', `/v1/orders/${orderId}/cancel`, user, {})
          : await this.json('POST', `/v1/orders/${orderId}/paid`, {}, { provider: 'chaos', eventId: seckillId });
        if (done?.status === 200) {
          const { status } = done.body;
          if (cancels && status === 'CANCELLED') purchase.settled = 'CANCELLED';
          if (!cancels && (status === 'PAID' || status === 'COMPLETED')) purchase.settled = 'PAID';
          return;
        }
      } else if (record?.status === 200 && record.body.status !== 'QUEUED') {
        return;
      }
      await sleep(PAUSE_MS * 2);
    }
  }

  private async json(
    method: string,
    path: string,
    headers: Record<string, string>,
    body?: unknown,
  ): Promise<{ status: number; body: Record<string, string> } | undefined> {
    const { http } = this.random.pick(this.stage.products).it;
    try {
      const reply = await fetch(`http://${http}${path}`, {
        method,
        headers: { 'content-type': 'application/json', ...headers },
        signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      const answer = { status: reply.status, body: (await reply.json()) as Record<string, string> };
      if (reply.status >= 500 && reply.status !== 503 && reply.status !== 504) {
        this.unexpected.push(`${method} ${path}: ${reply.status} ${JSON.stringify(answer.body)}`);
      }
      return answer;
    } catch {
      return undefined;
    }
  }
}

function scriptAnswer(offer: Offer, outcome: string): Answer | undefined {
  const [word = '', streamId = ''] = outcome.split(' ');
  if (word === 'BACKLOG_FULL' || word === 'FAILED') return undefined;
  return { code: word as Answer['code'], seckillId: streamId && `${offer.itemId}-${streamId}` };
}

/** What a client of Redis sees of a server that is away or can do nothing. */
function isRedisFault(err: unknown): boolean {
  return (
    err instanceof Error &&
    /Connection is closed|timed out|ECONN|EPIPE|max retries|isn't writeable|^(LOADING|READONLY|OOM|MISCONF|MASTERDOWN)/.test(
      err.message,
    )
  );
}
