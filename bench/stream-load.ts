/** Purchases over PurchaseStream, by the published client. Prints its report as JSON. */
import { PurchaseStreamClient } from '../api/seckill/v1/client/purchase-stream-client.js';
import { PurchaseReply_Code as Code } from '../gen/seckill/v1/seckill.js';

interface Settings {
  readonly target: string;
  readonly token: string;
  readonly itemId: string;
  readonly seconds: number;
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
const endAt = performance.now() + settings.seconds * 1_000;
let user = 0;
let answered = 0;
let failed = 0;

async function buyer(): Promise<void> {
  while (performance.now() < endAt) {
    const { code } = await client.purchase({ itemId, userId: String(++user) });
    if (code === Code.CODE_UNSPECIFIED) failed++;
    else answered++;
  }
}

await Promise.all(Array.from({ length: settings.inFlight }, buyer));
await client.close();
process.stdout.write(JSON.stringify({ answered, failed }));
