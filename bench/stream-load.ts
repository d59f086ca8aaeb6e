/** Purchases over PurchaseStream, by the published client. Prints its report as JSON. */
import { PurchaseStreamClient } from '../api/seckill/v1/client/purchase-stream-client.js';
import { PurchaseReply_Code as Code } from '../gen/seckill/v1/seckill.js';

interface Settings {
  readonly target: string;
  readonly token: string;
  readonly itemId: string;
  /** Duration; absent: until `count` purchases are made. */
  readonly seconds?: number;
  readonly count?: number;
  /** Default 1. */
  readonly firstUser?: number;
  /** Numbers that follow no order, which costs the indexes of PostgreSQL more. */
  readonly scattered?: boolean;
  readonly streams: number;
  /** Purchases that wait for their result at a time, over all streams. */
  readonly inFlight: number;
  readonly perMessage: number;
  readonly timeoutMs?: number;
}

const settings = JSON.parse(process.argv[2] ?? '{}') as Settings;
const { target: addr, token, streams, perMessage: maxPerMessage } = settings;
const client = new PurchaseStreamClient({
  ...{ addr, token, streams, maxPerMessage },
  ...(settings.timeoutMs !== undefined && { timeoutMs: settings.timeoutMs }),
});
const itemId = BigInt(settings.itemId);
const { seconds = Number.POSITIVE_INFINITY, count = Number.POSITIVE_INFINITY, firstUser = 1 } = settings;
const startedAt = performance.now();
const endAt = startedAt + seconds * 1_000;
let sent = 0;
let answered = 0;
const errors: Record<string, number> = {};

/** Odd, so that no two numbers below 2^32 become the same. */
const SCATTER = 2_654_435_761n;

function userOf(n: number): string {
  return settings.scattered ? String(BigInt.asUintN(32, BigInt(n) * SCATTER)) : String(n);
}

async function buyer(): Promise<void> {
  while (sent < count && performance.now() < endAt) {
    const { code, reason, message } = await client.purchase({ itemId, userId: userOf(firstUser + sent++) });
    if (code === Code.CODE_UNSPECIFIED) {
      const error = `${reason}: ${message}`;
      errors[error] = (errors[error] ?? 0) + 1;
    } else answered++;
  }
}

await Promise.all(Array.from({ length: settings.inFlight }, buyer));
await client.close();
process.stdout.write(
  JSON.stringify({ answered, errors, seconds: Math.min(seconds, (performance.now() - startedAt) / 1_000) }),
);
