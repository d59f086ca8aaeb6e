/** How many times a lease is renewed within its length, so that one renewal may be late. */
const RENEWALS = 3;

/**
 * Does work under a lease and renews the lease meanwhile, so that it can be short: the work of a dead process waits for
 * its end. Once this resolves, no renewal is in progress.
 *
 * @param renew a failure is no reason to stop: at worst the lease ends, and another process takes the work
 */
export async function whileRenewing<T>(
  leaseMs: number,
  renew: () => Promise<void>,
  work: () => Promise<T>,
): Promise<T> {
  let renewal: Promise<void> | undefined;
  const timer = setInterval(() => {
    renewal ??= renew()
      .catch(() => {})
      .finally(() => {
        renewal = undefined;
      });
  }, leaseMs / RENEWALS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    await renewal;
  }
}
