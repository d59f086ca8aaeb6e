/** A stream that found nothing for a time is asked again after this share of it, within these bounds. */
const SHARE = 0.1;
const MIN_MS = 5;
const MAX_MS = 100;
/** The same for streams of items that may not be bought now. */
const MAX_IDLE_MS = 1_000;

interface PolledStream {
  /** When it last had entries, by performance.now(). */
  activeAtMs: number;
  dueAtMs: number;
}

/**
 * When to ask which stream of a cluster for entries. A command there can wait for the streams of one slot only, and a
 * connection for each sale would be one more for each replica to hold, so they are asked in turn: a busy one every few
 * milliseconds, a quiet one more and more rarely.
 */
export class StreamPolling {
  private readonly known = new Map<bigint, PolledStream>();
  private expected: ReadonlySet<bigint> = new Set();
  private interrupted = false;
  private wake: () => void = () => {};

  /** @param itemIds that may be bought now */
  expect(itemIds: readonly bigint[]): void {
    this.expected = new Set(itemIds);
  }

  isDue(itemId: bigint): boolean {
    return this.knownOf(itemId).dueAtMs <= performance.now();
  }

  note(itemId: bigint, found: boolean): void {
    const nowMs = performance.now();
    const known = this.knownOf(itemId);
    if (found) known.activeAtMs = nowMs;
    const longest = this.expected.has(itemId) ? MAX_MS : MAX_IDLE_MS;
    known.dueAtMs = found ? nowMs : nowMs + Math.min(longest, Math.max(MIN_MS, (nowMs - known.activeAtMs) * SHARE));
  }

  /** Waits until one of the items is due, at most until `endMs`. @returns false when it was interrupted */
  async wait(itemIds: readonly bigint[], endMs: number): Promise<boolean> {
    if (this.interrupted) return false;
    const dueAtMs = Math.min(endMs, ...itemIds.map((itemId) => this.knownOf(itemId).dueAtMs));
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.max(1, dueAtMs - performance.now()));
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    return !this.interrupted;
  }

  /** Ends every wait from now on at once. */
  interrupt(): void {
    this.interrupted = true;
    this.wake();
  }

  private knownOf(itemId: bigint): PolledStream {
    let known = this.known.get(itemId);
    if (!known) {
      const nowMs = performance.now();
      known = { activeAtMs: nowMs, dueAtMs: nowMs };
      this.known.set(itemId, known);
    }
    return known;
  }
}
