import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Polls the condition until it returns neither undefined nor false, and resolves with that. Fails after timeoutMs,
 * naming what was waited for and the last error of the condition. The bound says when to give up, not how long something
 * may take: a machine with other work is ten times as slow.
 */
export async function eventually<T>(
  what: string,
  condition: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = 60_000, everyMs = 25 }: { timeoutMs?: number; everyMs?: number } = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let cause: unknown;
  for (;;) {
    try {
      const answer = await condition();
      if (answer !== undefined && answer !== false) return answer;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > deadline) {
      const reason = cause instanceof Error ? `: ${cause.message}` : '';
      throw new Error(`${what}: not within ${timeoutMs} ms${reason}`, { cause });
    }
    await sleep(everyMs);
  }
}
