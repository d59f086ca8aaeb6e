import type { KratosError } from '../../errors/error.js';
import { cancelled, deadlineExceeded } from '../../errors/reasons.js';

/** Node counts a timer from the beginning of the turn of the event loop that sets it, so it may fire that much early. */
const EARLY_MS = 20;

/** Why a call has ended that its caller cancelled or whose deadline has passed: both reach the server alike. */
export function cancellationOf(deadlineAtMs: number | undefined): KratosError {
  const isLate = deadlineAtMs !== undefined && Date.now() >= deadlineAtMs - EARLY_MS;
  return isLate ? deadlineExceeded('the deadline has passed') : cancelled('the caller cancelled the call');
}
